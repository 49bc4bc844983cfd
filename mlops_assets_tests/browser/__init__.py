"""The web UI as users see it: a real webserver and daemon, a real Chromium."""
