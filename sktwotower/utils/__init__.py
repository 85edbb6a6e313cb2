"""Helpers shared by the rooms of the package."""
