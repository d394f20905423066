"""The only package that knows settings, the scheduler, the tracker and the terminal."""
