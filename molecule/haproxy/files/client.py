"""Sends requests while a command runs, and for some seconds after: `client.py URL SECONDS COMMAND...`.

Each request is a connection of its own. The last line counts the requests and names each that failed.
"""

import subprocess
import sys
import threading
import urllib.request

url, seconds, *command = sys.argv[1:]
done = threading.Event()
failures: list[str] = []
requests = 0


def ask() -> None:
    global requests
    while not done.is_set():
        requests += 1
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                answer.read()
        except OSError as error:
            failures.append(str(error))


thread = threading.Thread(target=ask)
thread.start()
status = subprocess.run(command, check=False).returncode
if status == 0:
    done.wait(float(seconds))
done.set()
thread.join()
print(f"requests sent: {requests}, failed: {len(failures)} {sorted(set(failures))}")
sys.exit(status)
