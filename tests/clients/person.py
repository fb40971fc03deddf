"""One request as people make it with requests, which follows redirects by itself.

person.py METHOD URL SESSION [-H NAME:VALUE]... [-d TEXT | -f FILE | -g FILE]

-d and -f send a body that can be sent again, -g one that comes out of a
generator. Standard output gets one line of JSON, then the body as it came.
"""

import argparse
import json
import sys

import requests

parser = argparse.ArgumentParser()
parser.add_argument("method")
parser.add_argument("url")
parser.add_argument("session")
parser.add_argument("-H", dest="headers", action="append", default=[])
parser.add_argument("-d", dest="text")
parser.add_argument("-f", dest="file")
parser.add_argument("-g", dest="generated")
asked = parser.parse_args()


def pieces(path):
    with open(path, "rb") as file:
        while piece := file.read(65536):
            yield piece


headers = {"X-session": asked.session}
headers.update(header.split(":", 1) for header in asked.headers)
body = None
if asked.text is not None:
    body = asked.text.encode()
elif asked.file is not None:
    with open(asked.file, "rb") as whole:
        body = whole.read()
elif asked.generated is not None:
    body = pieces(asked.generated)

answer = requests.request(asked.method, asked.url, data=body, headers=headers, timeout=60,
                          allow_redirects=True)
said = {"status": answer.status_code, "hops": len(answer.history), "url": answer.url,
        "headers": {name.lower(): value for name, value in answer.headers.items()}}
sys.stdout.buffer.write(json.dumps(said).encode() + b"\n" + answer.content)
