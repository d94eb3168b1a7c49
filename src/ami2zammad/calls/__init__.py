"""What a call is: channels, calls, legs, numbers, causes, and the directory of agents.

Pure: no I/O and no clock. Time comes in with every signal, so that a recorded stream always gives the
same result. This room knows no other; `asterisk/` and `zammad/` know its types.
"""
