"""What a cluster's machine starts with; copied to it, so these modules import nothing of this project."""
