"""A film as segments: converted one by one or side by side, recorded in a journal, joined at the end.

source -> stretches of frames (`stretch`) -> segments (`recorder`) -> records in the journal -> join (`video.writer`)
"""
