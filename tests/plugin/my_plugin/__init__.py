"""An example of components from outside the package: one file for each kind, and one YAML beside it in ../conf."""
