"""The configuration of an Asterisk as FreePBX lays it out, as far as it matters to who looks at it from outside.

After what FreePBX 14 to 17 write: files that include others, `*_custom.conf` for what is added by hand; a trunk whose
endpoint is called anything, in context from-pstn, with credentials, a registration and an address; devices named by
extension in from-internal, a user's second device (WebRTC) with 99 in front; an endpoint for calls from anywhere and
one for Digium's phones; queues that reach their members through the dialplan and watch hints.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.e2e import config

TRUNK = "sipgate"

NAMELESS = "103"
"""A device whose user has no mailbox, and a name only in FreePBX's database (AMPUSER/103/cidname)."""

_NOBODY = "127.0.0.9:5060"
"""Where the trunk would register: nobody is there."""


def files(settings: config.Settings) -> Mapping[str, str]:
    """Return the files that differ from the rig's own."""
    written = config.files(settings)
    return {
        "manager.conf": written["manager.conf"] + "\n#include manager_additional.conf\n#include manager_custom.conf\n",
        "manager_additional.conf": ";\n",
        "manager_custom.conf": ";\n",
        "pjsip.conf": _PJSIP.format(sip=settings.sip),
        "pjsip.endpoint.conf": _endpoints(),
        "pjsip.aor.conf": _aors(settings),
        "pjsip.auth.conf": f"[{TRUNK}]\ntype=auth\nauth_type=userpass\nusername=4930600100\npassword=s3cret\n",
        "pjsip.registration.conf": _REGISTRATION.format(trunk=TRUNK, server=_NOBODY),
        "pjsip.identify.conf": f"[{TRUNK}]\ntype=identify\nendpoint={TRUNK}\nmatch={settings.trunk_host}\n",
        "extensions.conf": EXTENSIONS.replace("@TRUNK@", TRUNK),
        "queues.conf": QUEUES,
    }


_PJSIP = """\
[global]
type=global
endpoint_identifier_order=ip,username,anonymous
default_outbound_endpoint=dpma_endpoint
keep_alive_interval=0

[0.0.0.0-udp]
type=transport
protocol=udp
bind={sip}

#include pjsip.endpoint.conf
#include pjsip.aor.conf
#include pjsip.auth.conf
#include pjsip.registration.conf
#include pjsip.identify.conf
"""

_REGISTRATION = """\
[{trunk}]
type=registration
transport=0.0.0.0-udp
outbound_auth={trunk}
retry_interval=600
expiration=3600
line=yes
endpoint={trunk}
server_uri=sip:{server}
client_uri=sip:4930600100@{server}
"""


def _endpoints() -> str:
    parts = [
        "[dpma_endpoint]\ntype=endpoint\ncontext=dpma-invalid\n",
        "[anonymous]\ntype=endpoint\ncontext=from-sip-external\nallow=all\n",
        f"""\
[{TRUNK}]
type=endpoint
transport=0.0.0.0-udp
context=from-pstn
disallow=all
allow=alaw,ulaw
aors={TRUNK}
outbound_auth={TRUNK}
trust_id_inbound=yes
direct_media=no
timers=no
""",
    ]
    devices = {number: (number, name) for number, name in config.PHONES.items()}
    devices["99100"] = devices["100"]
    devices[NAMELESS] = (NAMELESS, "device")
    for device, (number, name) in devices.items():
        parts.append(
            f"""\
[{device}]
type=endpoint
aors={device}
context=from-internal
callerid={name} <{number}>
disallow=all
allow=alaw,ulaw
mailboxes={number}@default
direct_media=no
timers=no
"""
        )
    return "\n".join(parts)


def _aors(settings: config.Settings) -> str:
    parts = [f"[{TRUNK}]\ntype=aor\ncontact=sip:{settings.trunk}\n", "[99100]\ntype=aor\nmax_contacts=1\n"]
    for number in config.PHONES:
        contact = "" if number == config.OFFLINE else f"contact=sip:{number}@{settings.phones[number]}\n"
        parts.append(f"[{number}]\ntype=aor\n{contact}")
    return "\n".join(parts)


EXTENSIONS = """\
[general]
static=yes
writeprotect=yes
clearglobalvars=no

[globals]

[from-sip-external]
include => from-pstn

[from-zaptel]
include => from-dahdi

[from-dahdi]
include => from-pstn

[from-trunk]
include => from-pstn

[from-pstn]
include => ext-did

[ext-did]
exten => 4930600100,1,Goto(from-did-direct,100,1)
exten => 4930600130,1,Goto(ext-queues,600,1)

[from-did-direct]
include => ext-local

[ext-queues]
exten => 600,1,Answer()
 same => n,Queue(600,t,,,20)
 same => n,Hangup()

[from-queue]
exten => _XXX,1,Goto(ext-local,${EXTEN},1)

[ext-local]
exten => 100,hint,PJSIP/100&PJSIP/99100
exten => 101,hint,PJSIP/101
exten => 102,hint,PJSIP/102
exten => _1XX,1,Dial(PJSIP/${EXTEN},20,tTr)
 same => n,Hangup()

[from-internal]
include => ext-local
include => outbound-allroutes

[outbound-allroutes]
exten => _9XXXX.,1,Dial(PJSIP/${EXTEN:1}@@TRUNK@,20,tT)
 same => n,Hangup()
"""

QUEUES = """\
[general]
persistentmembers=no
autofill=yes

[600]
strategy=ringall
timeout=15
retry=1
joinempty=yes
member => Local/100@from-queue/n,0,Emma Taylor,hint:100@ext-local
member => Local/101@from-queue/n,0,Christopher Miller,hint:101@ext-local
"""
