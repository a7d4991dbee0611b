"""The crontab of the README, run by Debian's cron: what is mailed, and that silence sends no mail."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tcpdoctor.lab.closing import close_wait
from tests.readme import README

SICK = 113

CRON = """
set -e
mkdir -p "$FOLDER/etc/tcpdoctor" "$FOLDER/sbin" "$FOLDER/mail"
printf '[rules.close-wait-leak.limits]\\nmin_age = 0\\n' >"$FOLDER/etc/tcpdoctor/config.toml"
: >"$FOLDER/etc/crontab"
cat >"$FOLDER/sbin/sendmail" <<END
#!/bin/sh
cat >"$FOLDER/mail/\\$\\$.part"
mv "$FOLDER/mail/\\$\\$.part" "$FOLDER/mail/\\$\\$"
END
chmod 755 "$FOLDER/sbin/sendmail"
mount -t overlay -o "lowerdir=$FOLDER/etc:/etc" none /etc
mount -t overlay -o "lowerdir=$FOLDER/sbin:/usr/sbin" none /usr/sbin
for place in /run /etc/cron.d /var/lib /var/spool/cron /usr/local/bin; do
    mount -t tmpfs -o mode=755 none $place
done
ln -s "$TCPDOCTOR" /usr/local/bin/tcpdoctor
mkdir -m 1730 /var/spool/cron/crontabs
printf '%s\\n' "$TABLE" >/var/spool/cron/crontabs/root
chmod 600 /var/spool/cron/crontabs/root
"$DAEMON" -f &
daemon=$!
for try in $(seq 900); do
    [ -e "$FOLDER/healthy" ] && [ "$(ls "$FOLDER/mail" | grep -vc part)" -ge 2 ] && break
    sleep 0.1
done
kill $daemon
cat "$FOLDER"/mail/*
"""
"""cron and its mail see folders of their own; it looks at its tables once a minute."""


def mailed(daemon: str) -> "subprocess.CompletedProcess[str]":
    lines = re.findall(r"^\*/5 (\* .*tcpdoctor check .*)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) == 2
    with close_wait(SICK), tempfile.TemporaryDirectory() as folder:
        healthy = (
            f"* * * *  /usr/local/bin/tcpdoctor check --quiet --only syncookies-off; touch {folder}/healthy"
        )
        environment = os.environ | {
            "FOLDER": folder,
            "DAEMON": daemon,
            "TCPDOCTOR": str(Path(sys.executable).with_name("tcpdoctor")),
            "TABLE": "\n".join(f"* {line}" for line in [*lines, healthy]),
        }
        return subprocess.run(
            ["unshare", "-m", "--propagation", "private", "sh", "-c", CRON],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=120,
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give cron a spool and a sendmail of its own")
def test_the_crontab_of_the_readme_mails_what_is_wrong_and_else_nothing(in_namespace, need):
    done = in_namespace(mailed, need("cron", "cron"))
    assert (done.returncode, done.stderr) == (0, "")
    subjects = re.findall(r"^Subject: Cron <\S+> /usr/local/bin/tcpdoctor (.*)$", done.stdout, re.MULTILINE)
    assert sorted(subjects) == [
        "check --quiet",
        "check --since-last /var/lib/tcpdoctor.last --only-changes",
    ]
    assert done.stdout.count(f"{SICK} CLOSE_WAIT left open") == len(subjects)  # the short form
    assert re.search(
        rf"^{os.uname().nodename}(, netns \S+)?: [12] findings? appeared in the first look$",
        done.stdout,
        re.MULTILINE,
    )
