from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from office import refusal, shown, texts

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.mail import read_mail, read_mbox
from mm1cli.ingest.readers.mhtml import read_mhtml


def message(body="hello\n", **headers):
    made = EmailMessage()
    made["From"] = "Ann <ann@example.org>"
    made["Subject"] = "Größe"
    for name, value in headers.items():
        made[name] = value
    if body is not None:
        made.set_content(body)
    return made


def read(made):
    return read_mail(made.as_bytes())


def bodies(reading):
    return [block.text for block in reading.blocks[1:]]


def test_headers_and_text_are_read():
    """Red: who wrote when is lost, or encoded words reach the model."""
    reading = read(
        message("one\ntwo\n", To="Bo <bo@example.org>", Date="Mon, 1 Jan 2018 10:00 +0000")
    )
    assert shown(reading) == [
        ("part 1 (headers), line 1", "From: Ann <ann@example.org>"),
        ("part 1 (headers), line 2", "To: Bo <bo@example.org>"),
        ("part 1 (headers), line 3", "Date: Mon, 01 Jan 2018 10:00:00 +0000"),
        ("part 1 (headers), line 4", "Subject: Größe"),
        ("part 2 (text/plain), line 1", "one"),
        ("part 2 (text/plain), line 2", "two"),
    ]


def test_plain_text_is_preferred_and_html_is_read_where_it_says_more():
    """Red: every mail is read twice; or only "your client cannot show HTML" is read."""
    same = message("the bridge costs much\n")
    same.add_alternative("<p>the <b>bridge</b> costs much</p>", subtype="html")
    assert bodies(read(same)) == ["the bridge costs much"]
    stub = message("see the HTML version\n")
    stub.add_alternative("<h1>Offer</h1><p>forty-eight million crowns</p>", subtype="html")
    assert bodies(read(stub)) == ["see the HTML version", "# Offer\nforty-eight million crowns"]
    only = message(None)
    only.set_content("<p>only <span hidden>secret</span></p>", subtype="html")
    assert [(block.text, block.mark) for block in read(only).blocks[1:]] == [
        ("only", ""),
        ("secret", "hidden"),
    ]


def test_attachments_are_members_under_their_last_name():
    """Red: attachments are dropped, overwrite each other, or pretend to stand elsewhere."""
    made = message()
    for name in ("costs.csv", "../../etc/costs.csv", "C:\\x\\a\nb.txt"):
        made.add_attachment(b"a,b", maintype="application", subtype="x", filename="x")
        part = made.get_payload()[-1]
        part.replace_header("Content-Disposition", "attachment")
        part.set_param("filename", name.replace("\n", " "), header="Content-Disposition")
    inner = message("inner")
    made.add_attachment(inner)
    reading = read(made)
    names = [member.name for member in reading.members]
    assert names == ["costs.csv", "costs (2).csv", "a b.txt", "part 6.eml"]
    assert reading.members[0].data == b"a,b"
    assert bodies(read_mail(reading.members[3].data)) == ["inner"]


def test_encrypted_mail_is_named():
    """Red: an encrypted mail counts as read, with its subject."""
    made = message(None)
    made["Content-Type"] = "application/pkcs7-mime"
    made.set_payload("AAAA")
    reading = read(made)
    assert reading.warnings == ("the text is encrypted and not read",)
    assert refusal(read_mail, b"Content-Type: application/pkcs7-mime\n\nAAAA").reason is (
        Reason.ENCRYPTED
    )


@pytest.mark.parametrize("charset", ["koi8-r", "no-such-charset", "utf-8"])
def test_character_sets_are_used_as_far_as_they_are_right(charset):
    """Red: mail in other alphabets is noise, or a wrong name ends the run."""
    codec = "utf-8" if charset == "no-such-charset" else charset
    data = f"Subject: x\nContent-Type: text/plain; charset={charset}\n\nмост\n".encode(codec)
    assert bodies(read_mail(data)) == ["мост"]


def test_a_mailbox_gives_its_messages():
    """Red: ten years of mail are one file of base64."""
    one, two = message("one\n>From here\n"), message("two\n")
    separator = b"From ann@example.org Mon Jan  1 10:00:00 2018\n"
    data = separator + one.as_bytes() + b"\n" + separator + two.as_bytes()
    reading = read_mbox(data)
    assert [member.name for member in reading.members] == ["00001.eml", "00002.eml"]
    assert [bodies(read_mail(member.data)) for member in reading.members] == [
        ["one\n>From here"],
        ["two"],
    ]
    assert refusal(read_mbox, b"no mail at all").reason is Reason.UNREADABLE


def test_parts_without_end_are_refused():
    """Red: a mail of a hundred thousand parts takes hours, or exhausts the stack."""
    head = b"Content-Type: multipart/mixed; boundary=B\n\n"
    flat = head + b"--B\nContent-Type: text/plain\n\nx\n" * 1100 + b"--B--\n"
    assert refusal(read_mail, flat).reason is Reason.TOO_LARGE
    deep = b"".join(
        b"Content-Type: multipart/mixed; boundary=B%d\n\n--B%d\n" % (depth, depth)
        for depth in range(90)
    )
    assert texts(read_mail(b"Subject: deep\n" + deep + b"\nbottom")) == ["Subject: deep", "bottom"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"Subject:",
                b"From: ",
                b"<a@b",
                b"=?utf-8?b?",
                b"?=",
                b"\n",
                b"\n\n",
                b"Content-Type: ",
                b"text/html",
                b"multipart/alternative;",
                b"boundary=",
                b"B",
                b"--B",
                b"--B--",
                b'charset="',
                b"Content-Disposition: attachment; filename*=utf-8''",
                b"%ff",
                b"Date: ",
                b"\xff",
                b"\0",
                b"@,;:",
                b"Content-Transfer-Encoding: base64",
                b"To: ",
                b"[",
                b"(",
                b'"',
            ]
        ),
        max_size=25,
    ).map(b"".join)
)
def test_no_message_breaks_the_reader(data):
    """Red: a malformed header is a crash, or a lone surrogate reaches the model."""
    try:
        reading = read_mail(data)
    except Exception as error:
        assert getattr(error, "reason", None) in {Reason.EMPTY, Reason.ENCRYPTED}, error
        return
    for block in reading.blocks:
        block.text.encode()
        assert "\0" not in block.text and "\r" not in block.text
    for member in reading.members:
        member.name.encode()


def test_a_saved_web_page_is_read_as_a_page():
    """Red: a page is shown as an e-mail, and each of its pictures as a file left out."""
    saved = EmailMessage()
    saved["From"] = "<Saved by Blink>"
    saved["Snapshot-Content-Location"] = "https://example.org/costs"
    saved.set_content("<title>Costs</title><h1>2024</h1><p>Größe</p>", "html")
    saved.add_related(b"GIF89a", "image", "gif", filename="a.gif")
    saved.attach(message("<p>framed</p>"))
    saved.get_payload()[-1].set_content("<p>framed</p>", "html")
    reading = read_mhtml(saved.as_bytes())
    assert [block.text for block in reading.blocks] == [
        *("Address: https://example.org/costs", "Costs", "# 2024\nGröße", "framed")
    ]
    assert (reading.members, reading.warnings) == ((), ("1 pictures are not read",))
    assert texts(read_mhtml(message().as_bytes()))[-1] == "hello"


def test_rows_of_a_page_stand_for_a_plain_text_that_breaks_them():
    """Red: an invoice is a column of words, and what costs what can only be guessed; or a page
    with pictures is read twice."""
    made = message("Item\nQty\nPrice\nInk\n5\nPens\n3\n7\n")
    table = "<table><tr><th>Item<th>Qty<th>Price<tr><td>Ink<td><td>5<tr><td>Pens<td>3<td>7</table>"
    made.add_alternative(table, subtype="html")
    assert bodies(read(made)) == ["Item\tQty\tPrice\nInk\t\t5\nPens\t3\t7"]
    made = message("the meeting is on Monday\n")
    made.add_alternative("<p>the meeting is on Monday <img src='cid:a'></p>", subtype="html")
    made.get_payload()[1].add_related(b"\x89PNG", "image", "png", cid="<a>")
    assert bodies(read(made)) == ["the meeting is on Monday"]


def test_why_a_mail_did_not_arrive_is_read():
    """Red: of a bounce there is "Sorry", and not who could not be reached."""
    data = (
        b"Subject: Undelivered\nContent-Type: multipart/report; boundary=b\n\n--b\n\nSorry.\n--b\n"
        b"Content-Type: message/delivery-status\n\nReporting-MTA: dns; x.org\n\n"
        b"Final-Recipient: rfc822; joe@y.org\nStatus: 5.1.1\n\n--b--\n"
    )
    told = "Reporting-MTA: dns; x.org\n\nFinal-Recipient: rfc822; joe@y.org\nStatus: 5.1.1"
    assert bodies(read_mail(data)) == ["Sorry.", told]
