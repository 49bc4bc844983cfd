"""Jobs, and the sensors, schedules and automation conditions that start runs on their own."""
