"""The platform running unattended: the real daemon, real files, and processes that get killed (`make soak`)."""
