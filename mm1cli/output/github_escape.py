"""Text in a workflow of GitHub, whose runner reads what programs print and obeys some of it."""

import os

from mm1cli.output.text import Channel, Style


class ActionsChannel(Channel):
    """In a GitHub workflow the runner obeys lines with `::` at their start or `##[` anywhere, on
    stdout and stderr alike. What is written here is never one."""

    def write(self, text: str, style: Style = Style.PLAIN, url: str | None = None) -> None:
        super().write(harmless(text), style, url)


def harmless(text: str) -> str:
    """`text` that GitHub's runner takes for words."""
    text = text.replace("##[", "# #[")
    return "\n".join(
        f". {line}" if line.lstrip().startswith("::") else line for line in text.split("\n")
    )


def guarded(channel: Channel) -> Channel:
    """`channel`, or in a workflow of GitHub one that cannot command its runner."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return channel
    return ActionsChannel(channel.stream, channel.is_terminal, channel.color, channel.width)
