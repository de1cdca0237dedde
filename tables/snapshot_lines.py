"""Kafka records come in, one line of JSON each goes out: the form that DuckDB reads fastest.

A record's JSON value is written as it is, so Python never decodes it.
"""
