from cai.cli.summary import movement


def policy(harmful, slang):
    return {
        "harmful_rate": harmful,
        "helpful_rate": 1.0,
        "evasive_rate": 0.0,
        "attributes": {"slang": {"benign": slang}},
    }


def test_what_moved_is_said_and_what_stayed_is_not():
    before = {
        "constitution": {"hash": "abc"},
        "policies": {"rl_cai": policy(0.5, 0.4), "sl_cai": policy(0.5, 0.4)},
    }
    after = {
        "policies": {"rl_cai": policy(0.1, 0.4), "sl_cai": policy(0.52, 0.1), "new": policy(0, 0)}
    }
    assert movement(before, after) == [
        "since the constitution abc:",
        "rl_cai moved: harmful 50% -> 10%",
        "sl_cai moved: slang (benign) 40% -> 10%",
    ]
    assert movement({}, after) == [] and movement(before, before) == []
