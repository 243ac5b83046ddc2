"""Scoring: one pass over all probes gives the tables that every metric reads."""
