"""Bridge from Asterisk's event stream (AMI) to Zammad's caller log (CTI generic)."""

__version__ = "0.1.0"
