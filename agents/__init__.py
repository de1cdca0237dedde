"""The five layers, one module each, in the order an event meets them: data, state, context, decision, action.

Pure functions: no I/O, no clock, no Kafka. `streams/topology.py` strings them together.
"""
