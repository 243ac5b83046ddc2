"""The command line: composing a configuration, and the list of what there is to choose from."""
