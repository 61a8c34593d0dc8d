"""The local web page: drop the files of a record, and see the ECG and its prediction.

server    who may send requests, how large and how many they may be; the page itself
upload    writing the files of a request into a private folder
workers   processes that may be lost: each answers one request at a time, with limits of time and memory
answer    what a worker does: read, examine, predict, measure
main_labels, words   what stands first on the page, and labels in words
static    the page itself: HTML, CSS and JavaScript modules. It draws the ECG from the samples of an answer
"""
