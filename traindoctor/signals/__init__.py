"""Measurements of series: arrays in, numbers and arrays out."""
