"""Code that runs on a cluster's machine; it is copied there, so these modules import nothing of this package."""
