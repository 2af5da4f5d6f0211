"""What runs the documentation notices what is wrong with it."""

import pytest
from doc_commands import Rule, Shown
from doc_pages import Page


def sh(*lines):
    return Page("a page", "\n".join(["# Title", "## One", "", "```sh", *lines, "```", ""]))


def test_commands_are_joined_and_bare_of_comments():
    text = ("a 'b # c' d   # comment", "", "# all comment", "e \\", "   f  \\   # why", "  g",
            "cat > h <<'EOF'", "# kept", "EOF", "for i in 1 2; do", "  echo $i", "done")
    found = [(c.line, c.text) for c in sh(*text).commands]
    assert found == [(5, "a 'b # c' d"), (8, "e f g"), (11, "cat > h <<'EOF'\n# kept\nEOF"),
                     (14, "for i in 1 2; do\n  echo $i\ndone")]


def test_the_folder_and_variables_carry_over_and_functions_of_the_test_see_the_output(scene):
    seen = []
    scene.run(sh("mkdir x && cd x", "export A=ONE B", "pwd; echo $A", "echo WORD $A"), [
        Rule("^pwd", after=lambda s: seen.append(s.out)),
        Rule("WORD", after=lambda s: seen.append(s.out), replace={"WORD": lambda s: s.out[-4:-1]}),
    ], replace={"ONE": "one"})
    assert seen == [f"{scene.folder}/x\none\n", "one one\n"]


@pytest.mark.parametrize(("line", "rule", "what"), [
    ("false", None, "exit status 1"),
    ("true", Rule("true", status=3), "exit status 0"),
    ("true", Rule("flase"), "nothing that these rules fit"),
    ("dicomcrypt keygen -o a.key -p", None, "it asks 'passphrase:'"),
    ("read -p 'say: ' a", Rule("read", replies={"say:": "secret"}), "still runs"),
    ("pip install 'dicomcrypt[ladp]'", None, "no extra"),
    ("pip install ladp", None, "not this package"),
    ("make dmeo", None, "dmeo"),
    ("apt-get install sldap", None, "not known"),
    ("echo no", Rule("echo", serve="yes"), "ended with 0"),
])  # fmt: skip
def test_what_is_wrong_with_a_command_fails(scene, monkeypatch, line, rule, what):
    monkeypatch.setattr("doc_commands._SECONDS", 1 if what == "still runs" else 60)
    with pytest.raises(AssertionError, match=what):
        scene.run(sh(line), [rule] if rule else [])


@pytest.mark.parametrize(("language", "text"), [
    ("toml", "a = "), ("toml", "[audit]\nlgo = 'x'"), ("json", "{"), ("python", "1 / 0"),
])  # fmt: skip
def test_what_is_wrong_with_a_block_fails(scene, language, text):
    with pytest.raises(AssertionError, match="a page:2"):
        scene.run(Page("a page", f"```{language}\n{text}\n```\n"))


def test_questions_are_answered_as_a_person_does_it(scene):
    scene.run(sh("dicomcrypt keygen -o a.key -p", "dicomcrypt key table create t --login anna -p",
                 "read -p 'which? ' a; echo $a", "openssl genrsa -aes256 -out k"), [
        Rule("read", replies={"which": Shown("this")}, after=lambda s: s.write("said", s.out)),
        Rule("openssl", replies={"(?i)pass phrase": ["correct horse", "correct horse"]}),
    ], replies={"passphrase": "correct horse"})
    assert (scene.folder / "said").read_text() == "this\n"
    assert b"ENCRYPTED" in (scene.folder / "k").read_bytes()


def test_servers_run_until_the_end_and_one_that_ends_before_is_noticed(scene):
    scene.run(sh("echo up; sleep 30", "echo down; sleep 0.2; false", "sleep 1"),
              [Rule("up", serve="up"), Rule("down", serve="down")])
    with pytest.raises(AssertionError, match="ended on its own with 1"):
        scene.stop()


def test_a_part_of_a_page_has_the_page_s_line_numbers():
    page = Page("a page", "# T\n## A\n```sh\na\n```\n## B\n### C\n```sh\nb\n```\n## D\ntext\n")
    assert page.headings() == ["A", "B"]
    assert [(c.line, c.text) for c in page.part("B").commands] == [(9, "b")]
