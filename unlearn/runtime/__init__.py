"""What every part stands on: errors, components, files, processes, progress. Imports nothing above it."""
