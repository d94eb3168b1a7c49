"""Asterisk's configuration for the rig, one set of templates for versions 16 and 22.

What differs between the two is only noted here, nothing depends on the version:

* 16 has modules that 22 has lost (chan_sip) and the other way round; ``noload`` of a module that does not
  exist is harmless in both.
* The folder of the modules differs (Debian went multi-arch); it is looked up in the root file system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "config" / "asterisk"
"""What is shipped for administrators to include in their own configuration."""

PHONES: dict[str, str] = {
    "100": "Emma Taylor",
    "101": "Christopher Miller",
    "102": "Zoë Müller",
    "103": "Offline Otto",
}
"""The agents' devices. 103 is configured but has no contact: a phone that is switched off."""

OFFLINE = "103"

SHIPPED = "ami2zammad"
"""The account of the shipped manager.d/zammad.conf, filters and all."""

ACCOUNTS = ("least", "full", "rig", "deaf", "mute", SHIPPED)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the templates need to know; addresses are ``host:port``."""

    module_folder: str
    sip: str
    ami_host: str
    ami_port: int
    trunk: str
    trunk_host: str
    phones: Mapping[str, str]
    rtp: tuple[int, int]
    secrets: Mapping[str, str]


def files(settings: Settings) -> dict[str, str]:
    """Return the configuration files by name."""
    return {
        "asterisk.conf": _asterisk(settings),
        "modules.conf": MODULES,
        "logger.conf": LOGGER,
        "manager.conf": _manager(settings),
        "pjsip.conf": _pjsip(settings),
        "rtp.conf": f"[general]\nrtpstart={settings.rtp[0]}\nrtpend={settings.rtp[1]}\nstrictrtp=no\n",
        "extensions.conf": EXTENSIONS,
        "queues.conf": QUEUES,
        "voicemail.conf": VOICEMAIL,
        "musiconhold.conf": "[default]\nmode=files\ndirectory=/mnt/moh\n",
        "res_parking.conf": PARKING,
        "features.conf": FEATURES,
        "followme.conf": FOLLOWME,
        "cdr.conf": "[general]\nenable=no\n",
        "indications.conf": INDICATIONS,
        # Without these, modules complain in the log, and a reader of the log looks for a fault there.
        **dict.fromkeys(("acl.conf", "ccss.conf", "cel.conf", "pjproject.conf", "udptl.conf"), "; defaults\n"),
    }


def _asterisk(settings: Settings) -> str:
    return f"""\
[directories]
astetcdir => /mnt/etc
astmoddir => {settings.module_folder}
astvarlibdir => /var/lib/asterisk
astdbdir => /mnt/db
astkeydir => /mnt/keys
astdatadir => /usr/share/asterisk
astagidir => /usr/share/asterisk/agi-bin
astspooldir => /mnt/spool
astrundir => /mnt/run
astlogdir => /mnt/log
astsbindir => /usr/sbin

[options]
verbose = 3
defaultlanguage = en
documentation_language = en_US
"""


# VoiceMail() is registered by whichever voicemail module comes first, and only app_voicemail.so keeps its
# messages in files. The rest is switched off because it wants a database or a server, or takes ports.
MODULES = "[modules]\nautoload=yes\n" + "".join(
    f"noload => {name}.so\n"
    for name in (
        *(
            "app_voicemail_odbc",
            "app_voicemail_imap",
            "app_minivm",
            "app_adsiprog",
            "app_getcpeid",
            "app_alarmreceiver",
        ),
        *("app_festival", "app_amd", "app_jack", "app_flash", "app_meetme", "app_dahdiras", "app_sms"),
        *("chan_sip", "chan_iax2", "chan_skinny", "chan_mgcp", "chan_unistim", "chan_motif", "chan_ooh323"),
        *("chan_dahdi", "chan_console", "chan_alsa", "chan_oss", "chan_mobile", "chan_misdn", "chan_vpb"),
        *("chan_audiosocket", "chan_websocket", "chan_rtp", "res_audiosocket", "res_websocket_client"),
        *("cdr_adaptive_odbc", "cdr_csv", "cdr_custom", "cdr_manager", "cdr_odbc", "cdr_pgsql", "cdr_radius"),
        *("cdr_sqlite3_custom", "cdr_syslog", "cdr_tds", "cdr_mysql", "cdr_beanstalkd"),
        *("cel_custom", "cel_manager", "cel_odbc", "cel_pgsql", "cel_radius", "cel_sqlite3_custom", "cel_tds"),
        *("cel_beanstalkd", "func_odbc", "func_realtime", "pbx_ael", "pbx_dundi", "pbx_lua", "pbx_realtime"),
        *("res_config_curl", "res_config_ldap", "res_config_mysql", "res_config_odbc", "res_config_pgsql"),
        *("res_config_sqlite3", "res_corosync", "res_odbc", "res_odbc_transaction", "res_snmp", "res_statsd"),
        *("res_calendar", "res_calendar_caldav", "res_calendar_ews", "res_calendar_exchange"),
        *("res_calendar_icalendar", "res_phoneprov", "res_pjsip_phoneprov_provider", "res_xmpp", "res_hep"),
        *("res_hep_pjsip", "res_hep_rtcp", "res_smdi", "res_fax", "res_fax_spandsp", "res_prometheus"),
        *("res_ari", "res_ari_applications", "res_ari_asterisk", "res_ari_bridges", "res_ari_channels"),
        *("res_ari_device_states", "res_ari_endpoints", "res_ari_events", "res_ari_model", "res_ari_playbacks"),
        *("res_ari_recordings", "res_ari_sounds", "res_adsi", "res_ael_share", "res_clialiases"),
        *("res_stun_monitor", "res_resolver_unbound", "res_geolocation", "res_pjsip_geolocation"),
        *("res_stir_shaken", "res_pjsip_stir_shaken", "res_speech_aeap", "res_aeap", "app_stasis"),
        *("app_stasis_broadcast", "res_stasis_broadcast", "app_audiosocket", "app_agent_pool"),
        *("app_confbridge", "app_page", "res_http_media_cache"),
        *("res_pjsip_config_wizard", "res_pjsip_notify", "res_pjsip_publish_asterisk"),
        "res_pjsip_transport_websocket",
    )
)

LOGGER = """\
[general]
dateformat=%F %T.%3q
[logfiles]
messages => notice,warning,error,verbose(3)
"""


def _manager(settings: Settings) -> str:
    shipped = (SAMPLES / "manager.d" / "zammad.conf").read_text()
    return f"""\
[general]
enabled = yes
bindaddr = {settings.ami_host}
port = {settings.ami_port}
displayconnects = no

; What the bridge is to live with: the account that its documentation asks for.
[least]
secret = {settings.secrets["least"]}
read = call,agent
write = call,originate

; The other extreme, an account that somebody gave everything.
[full]
secret = {settings.secrets["full"]}
read = all
write = all
writetimeout = 5000

; Mistakes that people make: an account that sees no calls, and one that may do too little.
[deaf]
secret = {settings.secrets["deaf"]}
read = agi
write = call,originate

[mute]
secret = {settings.secrets["mute"]}
read = call,agent
write = agi

; The rig's own eyes and hands.
[rig]
secret = {settings.secrets["rig"]}
read = all
write = all
writetimeout = 5000

{shipped.replace("change-me", settings.secrets[SHIPPED])}"""


def _pjsip(settings: Settings) -> str:
    parts = [
        f"""\
[global]
type=global
endpoint_identifier_order=ip,username
keep_alive_interval=0

[transport]
type=transport
protocol=udp
bind={settings.sip}

[trunk]
type=endpoint
transport=transport
context=from-trunk
disallow=all
allow=alaw,ulaw
aors=trunk
direct_media=no
dtmf_mode=info
trust_id_inbound=yes
timers=no

[trunk]
type=aor
contact=sip:{settings.trunk}

[trunk]
type=identify
endpoint=trunk
match={settings.trunk_host}
"""
    ]
    for number, name in PHONES.items():
        contact = "" if number == OFFLINE else f"contact=sip:{number}@{settings.phones[number]}\n"
        parts.append(
            f"""\
[{number}]
type=endpoint
transport=transport
context=from-internal
callerid="{name}" <{number}>
disallow=all
allow=alaw,ulaw
aors={number}
direct_media=no
dtmf_mode=info
call_group=1
pickup_group=1
mailboxes={number}@default
timers=no

[{number}]
type=aor
{contact}"""
        )
    return "\n".join(parts)


# The trunk delivers 49306001xx. The last two digits choose what happens.
EXTENSIONS = """\
[general]
static=yes
writeprotect=yes
clearglobalvars=no

[globals]

[from-trunk]
; 00-03: straight to one phone
exten => _493060010[0-3],1,Dial(PJSIP/1${EXTEN:-2},20,tT)
 same => n,Hangup()
; rings out
exten => 4930600110,1,Dial(PJSIP/100,2,tT)
 same => n,Hangup()

; 2x: groups
exten => 4930600120,1,Dial(PJSIP/100&PJSIP/101&PJSIP/102,20,tT)
 same => n,Hangup()
exten => 4930600121,1,Dial(Local/100@from-internal&Local/101@from-internal&Local/102@from-internal,20,tT)
 same => n,Hangup()
exten => 4930600122,1,Dial(Local/100@from-internal/n&Local/101@from-internal/n&Local/102@from-internal/n,20,tT)
 same => n,Hangup()
; follow-me, the way FreePBX does it, and with Asterisk's own application
exten => 4930600123,1,Dial(Local/100@from-internal&Local/101@from-internal,20,tT)
 same => n,Hangup()
exten => 4930600124,1,Dial(Local/100@from-internal/n&Local/101@from-internal/n,20,tT)
 same => n,Hangup()
exten => 4930600125,1,FollowMe(emma,dl)
 same => n,Hangup()
; rings the one, then the other (a hunt group)
exten => 4930600126,1,Dial(PJSIP/100,2,tT)
 same => n,Dial(PJSIP/101,20,tT)
 same => n,Hangup()

; 3x: queues
exten => 4930600130,1,Answer()
 same => n,Queue(support,,,,20)
 same => n,Hangup()
exten => 4930600131,1,Answer()
 same => n,Queue(support,,,,3)
 same => n,Hangup()
exten => 4930600132,1,Answer()
 same => n,Queue(support,,,,3)
 same => n,Queue(sales,,,,20)
 same => n,Hangup()
exten => 4930600133,1,Answer()
 same => n,Queue(support-local,,,,20)
 same => n,Hangup()
exten => 4930600134,1,Answer()
 same => n,Queue(rounds,,,,20)
 same => n,Hangup()
exten => 4930600135,1,Queue(support,r,,,20)  ; not answered first: the caller hears ringing
 same => n,Hangup()

; 4x: voicemail
exten => 4930600140,1,Dial(PJSIP/100,2,tT)
 same => n,VoiceMail(100@default,u)
 same => n,Hangup()
exten => 4930600141,1,VoiceMail(100@default,u)
 same => n,Hangup()

; 5x: menus. Asterisk answers, then asks.
exten => 4930600150,1,Answer()
 same => n,Goto(menu,s,1)

; 6x: straight on to a mobile phone
exten => 4930600160,1,Dial(PJSIP/4917612345678@trunk,20)
 same => n,Hangup()

; 7x: everybody is busy, and the caller gets to hear so
exten => 4930600170,1,Dial(PJSIP/100&PJSIP/101&PJSIP/102,20,tT)
 same => n,Answer()
 same => n(again),Playback(vm-isunavail&vm-goodbye)
 same => n,Goto(again)
exten => 4930600171,1,Dial(PJSIP/100&PJSIP/101&PJSIP/102,20,tT)
 same => n,Busy(20)

[menu]
exten => s,1,Background(vm-options)
 same => n,WaitExten(20)
exten => 1,1,Dial(PJSIP/101,20,tT)
 same => n,Hangup()
exten => 2,1,VoiceMail(100@default,u)
 same => n,Hangup()

[from-internal]
include => parkedcalls
exten => _10X,1,Dial(PJSIP/${EXTEN},20,tT)
 same => n,Hangup()
; An outside line is 0 (a number of at least four digits, so that it hides no code).
exten => _0XXX.,1,Dial(PJSIP/${EXTEN:1}@trunk,20,tT)
 same => n,Hangup()
; **100 picks up 100's call in particular; *8 (any call of the group) is a feature code of the channel driver.
exten => _**10X,1,PickupChan(PJSIP/${EXTEN:2})
 same => n,Hangup()
; 2xx: a blind transfer's target that gives the call back to the transferring phone if it comes to nothing
exten => _20X,1,Set(BACK=${CUT(BLINDTRANSFER,-,1)})
 same => n,Dial(PJSIP/1${EXTEN:1},20,tT)
 same => n,Dial(${BACK},20,tT)
 same => n,Hangup()
; Queue members as FreePBX has them
exten => _8XX,1,Dial(PJSIP/1${EXTEN:1},20,tT)
 same => n,Hangup()
"""

QUEUES = """\
[general]
persistentmembers=no
autofill=yes
shared_lastcall=no

[defaults](!)
strategy=ringall
timeout=15
retry=1
wrapuptime=0
ringinuse=no
joinempty=yes
leavewhenempty=no
announce-frequency=0
setinterfacevar=no

[support](defaults)
member => PJSIP/100,0,Emma Taylor,PJSIP/100
member => PJSIP/101,0,Christopher Miller,PJSIP/101

[sales](defaults)
member => PJSIP/102,0,Zoë Müller,PJSIP/102

; The members' phones are reached through the dialplan, as FreePBX does (its context is from-queue).
[support-local](defaults)
member => Local/800@from-internal/n,0,Emma Taylor,PJSIP/100
member => Local/801@from-internal/n,0,Christopher Miller,PJSIP/101

; Gives up on a member after two seconds, waits one, and tries again.
[rounds](defaults)
timeout=2
member => PJSIP/100,0,Emma Taylor,PJSIP/100
member => PJSIP/101,0,Christopher Miller,PJSIP/101
"""

VOICEMAIL = """\
[general]
format=wav
maxsecs=60
attach=no
sendvoicemail=no

[default]
100 => 1234,Emma Taylor
101 => 1234,Christopher Miller
102 => 1234,Zoë Müller
"""

PARKING = """\
[general]

[default]
parkext => 700
parkpos => 701-720
context => parkedcalls
parkingtime => 45
comebacktoorigin => yes
comebackdialtime => 20
findslot => first

; For calls that come back soon. Without "exclusive", extension 740 would park in the default lot.
[short]
parkext => 740
parkext_exclusive => yes
parkpos => 741-750
context => parkedcalls
parkingtime => 2
comebacktoorigin => yes
comebackdialtime => 20
findslot => first
"""

FEATURES = """\
[general]
pickupexten = *8
transferdigittimeout = 3
featuredigittimeout = 2000
atxfernoanswertimeout = 20

[featuremap]
blindxfer => *1
atxfer => *2
"""

FOLLOWME = """\
[general]

[emma]
musicclass=default
context=from-internal
number => 100&101,20
takecall=>1
declinecall=>2
"""

INDICATIONS = """\
[general]
country=de

[de]
description = Germany
ringcadence = 1000,4000
dial = 425
busy = 425/480,0/480
ring = 425/1000,0/4000
congestion = 425/240,0/240
callwaiting = !425/200,!0/200,!425/200,!0/5000,!425/200,!0/200,!425/200,!0/5000
dialrecall = !425/100,!0/100,!425/100,!0/100,!425/100,!0/100,425
record = 1400/80,0/15000
info = 950/330,1400/330,1800/330,0/1000
stutter = 425+400
"""
