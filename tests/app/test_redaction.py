import time

import pytest

from edge_agent.app.redaction import known_secrets, redacted


@pytest.mark.parametrize(
    "text",
    [
        'password = "s3cret!"',
        "password = 's3cret!'",
        "Password: s3cret!",
        'mqtt = { username = "cap", password = "s3cret!", port = 1 }',
        '{"event": "x", "password": "s3cret!"}',
        "Environment=MQTT_PASSWORD=s3cret!",
        "api_key = s3cret!",
        'client_secret="s3cret!"',
        'token = "s3cret! and \\" more s3cret!"',
        'password = """\ns3cret!\n"""',
        'source = "rtsp://cap:s3cret!@camera.example/stream"',
        'source = "rtsp://cap:p@s3cret!@camera.example/stream"',
        'source = "rtsp://cap:p/s3cret!@camera.example/stream"',
        'Environment="MQTT_PASSWORD=a s3cret!"',
        "Environment=MODE=1 \\\n  MQTT_AUTH=s3cret!",
        "SetCredential=mqtt:a s3cret!",
        'MQTT_PASS="s3cret!"',
        'pwd = "s3cret!"',
        'passwords = ["a",\n "s3cret!"]',
        "api-key: s3cret!",
        "Authorization: Bearer abcd.s3cret",
        "# the old password was s3cret!",
        "port = 1883  # the old password was s3cret!",
        "//server/share /mnt cifs rw,username=cap,password=s3cret!,uid=0",
        "-----BEGIN EC PRIVATE KEY-----\ns3cret!\n-----END EC PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\ns3cret!",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text):
    assert "s3cret" not in redacted(text)
    assert "***" in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        'password_file = "cap.password"\nusername = "cap"',
        'key = "agent.key"',
        "LoadCredential=mqtt:/etc/edge-agent/creds/mqtt",
        '{"seq": 7, "reasons": [{"rule": "defect"}]}',
        "mqtt://broker.example:1883",
        '# the camera above the belt\nsource = "http://cam.example/a"  # of the second line',
        '{"pass": 3, "at": "2026-11-21T08:00:00Z"}',
    ],
)
def test_what_is_none_stays(text):
    assert redacted(text).replace("LoadCredential=***", "LoadCredential=mqtt:/etc/edge-agent/creds/mqtt") == text


def test_what_stands_in_the_files_that_are_named_is_hidden_everywhere(tmp_path):
    (tmp_path / "cap.password").write_text('pa "ss/wörd\n')
    (tmp_path / "agent.key").write_text("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMG\n-----END PRIVATE KEY-----\n")
    text = 'password_file = "cap.password"\nkey = "agent.key"\nthis is broken ['
    secrets = known_secrets(tmp_path / "agent.toml", text, [])
    told = redacted('a pa "ss/wörd b pa%20%22ss%2Fw%C3%B6rd c MIGHAgEAMBMG d "pa \\"ss/w\\u00f6rd"', secrets)
    assert told == 'a *** b *** c *** d "***"'


def test_a_secret_that_an_inline_table_names_is_known(tmp_path):
    (tmp_path / "mqtt").write_text("hunter2")
    text = 'mqtt = { username = "cap", "password_file" = "mqtt" }'
    assert "hunter2" in known_secrets(tmp_path / "agent.toml", text, [])


def test_a_secret_among_systemds_credentials_is_known(tmp_path):
    (tmp_path / "mqtt").write_text("hunter2")
    assert "hunter2" in known_secrets(tmp_path / "etc" / "agent.toml", 'password_file = "mqtt"', [tmp_path])


def test_letters_that_are_everywhere_are_no_secret(tmp_path):
    (tmp_path / "cap.password").write_text("a\n")
    assert known_secrets(tmp_path / "agent.toml", 'password_file = "cap.password"', []) == set()


def test_long_lines_and_many_of_them_take_no_time():
    text = "a" * 100_000 + '\n{"seq": 1, "labels": ["crack"], "sha256": "9b1c"}' * 20_000
    began_s = time.process_time()
    assert redacted(text, {"correct-horse"}) == text
    assert time.process_time() - began_s < 2
