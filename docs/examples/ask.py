#!/usr/bin/env python3
"""Asks one question and prints the answer as it is written, whatever dies meanwhile. Needs Python 3.8, and nothing else.

    ask.py "Why is the sky blue?" [GATEWAY…]     each as http://127.0.0.1:8080; several where no proxy stands in front
"""
import http.client, itertools, json, os, random, sys, time, urllib.error, urllib.request, uuid, zlib

question, gateways = sys.argv[1], sys.argv[2:] or ["http://127.0.0.1:8080"]
headers = {"Content-Type": "application/json"}
if "CHATNODE_TOKEN" in os.environ:  # where users log in
    headers["Authorization"] = "Bearer " + os.environ["CHATNODE_TOKEN"]
text, shown, position = b"", b"", ""  # as bytes, because offsets count bytes of UTF-8

def request(path, body=None, **more):
    data = None if body is None else json.dumps(body).encode()
    # An open stream says something every 15 s, so a longer silence is a dead end.
    answer = urllib.request.urlopen(urllib.request.Request(gateways[0] + path, data, {**headers, **more}), timeout=20)
    if "Set-Cookie" in answer.headers:  # who we are where nobody logs in
        headers["Cookie"] = answer.headers["Set-Cookie"].split(";")[0]
    return answer

def insist(attempt):  # until it succeeds, at the next gateway each time; twice must do no harm
    for tries in itertools.count():
        try:
            return attempt()
        except urllib.error.HTTPError as refusal:
            if refusal.code < 500 and refusal.code != 429:  # asking again will not help
                sys.exit(refusal.read().decode())
        except (OSError, http.client.HTTPException, ValueError):
            pass
        gateways.append(gateways.pop(0))
        time.sleep(random.uniform(0, min(5, 0.25 * 2 ** min(tries, 5))))

def follow():
    global text, shown, position
    for line in request(f"/api/generations/{generation}/events", **{"Last-Event-ID": position}):
        frame = json.loads(line[5:]) if line.startswith(b"data:") else {"type": "comment"}
        kind, new = frame["type"], frame.get("text", "").encode()
        if kind == "snapshot":
            text = new
        elif kind in ("delta", "rewind") and frame.get("channel", "text") == "text" and frame["offset"] <= len(text):
            text = text[:frame["offset"]] + new  # what repeats says the same
        position = frame.get("position", position)
        if kind == "finished" and (len(text), zlib.crc32(text)) != (frame["length"], frame["crc32"]):
            text, position = b"", ""  # something is missing: all of it again
            break
        if len(text) > len(shown) or kind == "finished":
            sys.stdout.buffer.write(text[len(shown):] if text.startswith(shown) else b"\n(once more)\n" + text)
            sys.stdout.flush()
            shown = text
        if kind == "finished":
            return frame["status"]
    raise ConnectionError("the stream ended before the answer did")

conversation = insist(lambda: json.load(request("/api/conversations", {})))["id"]
key = {"Idempotency-Key": str(uuid.uuid4())}  # asked twice, it is still one question
answer = insist(lambda: json.load(request(f"/api/conversations/{conversation}/messages", {"content": question}, **key)))
generation = answer["assistant_message"]["generation"]
print(generation, file=sys.stderr)  # so the logs call it
sys.exit(0 if insist(follow) == "completed" else 1)
