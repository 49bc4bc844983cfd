"""Jobs now; sensors, schedules and automation conditions when new data arrives by itself."""
