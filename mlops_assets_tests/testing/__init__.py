"""The kit that users test their own assets with."""
