"""The reference reject arm: a subscriber that acts on verdicts as a gateway to a PLC would. Read `judge.py` first.

messages   what it reads of the agent's messages, and what it refuses
judge      may this verdict be acted on? Pure: time comes in with each message
pulses     when the outputs are on: delay, pulse, stop. Pure likewise
outputs    the lines themselves: simulated, or GPIO
connection to the broker, made again for as long as it takes
client     the clock, signals, and the process around all of it
settings   its configuration file
"""
