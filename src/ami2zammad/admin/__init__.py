"""What an administrator runs by hand beside the daemon: check, replay, record."""
