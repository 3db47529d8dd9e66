"""Choices only: functions from inputs to jobs."""
