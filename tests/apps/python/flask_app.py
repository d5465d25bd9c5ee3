"""A Flask application; PEER in the environment is whom /call asks."""
import os
import time

import flask
import requests

app = flask.Flask(__name__)
session = requests.Session()


@app.route('/bytes/<int:size>/<tag>')
def give(size, tag):
    return flask.Response(b'x' * size, mimetype='text/plain')


@app.route('/chunked/<int:size>/<tag>')
def chunked(size, tag):
    half = size // 2
    return flask.Response((piece for piece in (b'x' * half, b'x' * (size - half)) if piece), mimetype='text/plain')


@app.route('/upload/<tag>', methods=['POST', 'PUT'])
def upload(tag):
    count = 0
    while piece := flask.request.stream.read(65536):
        count += len(piece)
    return f'received {count}\n', 201


@app.route('/item/<tag>', methods=['DELETE'])
def item(tag):
    return '', 204


@app.route('/status/<int:code>/<tag>')
def status(code, tag):
    if code == 301:
        return flask.redirect('/bytes/0/1', 301)
    return ('' if code == 204 else f'status {code}\n'), code


@app.route('/slow/<int:delay>/<tag>')
def slow(delay, tag):
    time.sleep(delay / 1000)
    return 'late\n'


@app.route('/call/<tag>')
def call(tag):
    answer = session.get(f"{os.environ['PEER']}/bytes/10/{tag}", headers={'User-Agent': 'flask-app'})
    return answer.text, answer.status_code


@app.route('/twice/<tag>')
def twice(tag):
    for turn in (1, 2):
        session.get(f"{os.environ['PEER']}/bytes/{turn}/{tag}")
    return 'twice\n'
