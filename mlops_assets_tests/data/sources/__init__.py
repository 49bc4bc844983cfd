"""Tests of the sources, with loopback servers that can misbehave."""
