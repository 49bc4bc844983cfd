"""Whole processes: killed, cancelled, two at once, misconfigured."""
