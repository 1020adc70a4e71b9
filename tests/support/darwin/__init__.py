"""Answers of macOS, built from the layouts of its headers; none was recorded on a Mac."""
