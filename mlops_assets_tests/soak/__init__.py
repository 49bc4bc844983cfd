"""The platform left to itself: the real daemon, real files, and processes that are killed (`make soak`)."""
