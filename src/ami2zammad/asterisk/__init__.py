"""All that knows AMI: framing, protocol, one session, when to connect again, recordings.

It turns what Asterisk says into the signals of `calls.signalling` and knows no other room.
"""
