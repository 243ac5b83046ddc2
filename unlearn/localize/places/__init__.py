"""Localizers that select by place: layers, module types."""
