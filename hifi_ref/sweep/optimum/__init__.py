"""The least loss that a format's blocks can hold, and how far encoders stay above it.

search      the least over all scales that can be stored, and all codes, proven
formats     what each format can store: levels, scales, mins
encoders    everyone who writes blocks of a format, against that
"""
