"""A person who labels, at the level of requests."""

import re

from starlette.testclient import TestClient

from cai.studio.app import build_app
from cai.studio.library import Library

TOKEN = "t" * 43
ORIGIN = {"origin": "http://127.0.0.1:1"}


class Rater:
    """A person with a browser and keys."""

    path = "/run/a/judge/label"

    def __init__(self, folder, name="ann", **filters):
        library = Library([folder])
        library.runs["a"].refresh()
        self.client = TestClient(build_app(library, TOKEN, "1"), base_url="http://127.0.0.1:1")
        self.client.cookies.set("cai_studio_1", TOKEN)
        self.form = {"rater": name, **filters}
        self.page = self.client.get(self.path, params=self.form).text

    @property
    def pair(self):
        found = re.search(r'name="pair" value="(\w+)"', self.page)
        return found and found[1]

    @property
    def shown(self):
        return re.findall(
            r'<section class="answer"><h2>\d</h2>\s*<div[^>]*>([^<]*)</div>', self.page
        )

    def press(self, choice, **values):
        form = {**self.form, "pair": self.pair or "", "choice": choice, **values}
        answer = self.client.post(self.path, data=form, headers=ORIGIN)
        self.page = answer.text
        return answer

    def prefer(self, word):
        self.press("left" if word in self.shown[0] else "right")
