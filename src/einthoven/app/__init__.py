"""The local web page: drop the files of a record, see the ECG and the answer.

server    who may ask, how much, and how many at once; the page itself
upload    the bytes of a request -> files in a private folder
workers   processes that may be lost: each answers for one record at a time, under limits of time and memory
answer    what such a process does: read, examine, predict, draw
"""
