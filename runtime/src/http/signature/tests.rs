use super::*;
use crate::session::ids::InvalidId;

const NOW: u64 = 1_753_000_000_000;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn function(name: &str) -> FunctionName {
    FunctionName::new(name).unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes()).unwrap()
}

fn peers(current: &str, previous: Option<&str>) -> Keys {
    let peer =
        PeerKeys { current: secret(current), previous: previous.map(secret).into_iter().collect() };
    Keys { peer: Some(peer), operator: Some(secret("the operators' own secret")) }
}

fn cart(keys: &Keys) -> FunctionKeys {
    keys.for_function(&function("cart"))
}

fn keys() -> FunctionKeys {
    cart(&peers("the peers' secret, now", None))
}

fn navigli() -> Caller {
    Caller { role: Role::Peer, name: node("navigli") }
}

/// A call and everything around it that a test may change.
#[derive(Clone)]
struct Scene {
    target: NodeName,
    method: String,
    path: String,
    query: String,
    body: Vec<u8>,
    session: String,
    request_id: String,
}

impl Scene {
    fn new() -> Self {
        Self {
            target: node("milan"),
            method: "POST".into(),
            path: "/_/migrate-session".into(),
            query: "phase=copy".into(),
            body: b"{}".to_vec(),
            session: "ada".into(),
            request_id: "r-1".into(),
        }
    }

    fn call(&self) -> Call<'_> {
        let Self { target, method, path, query, body, session, request_id } = self;
        Call { method, path, query, body, session, request_id, ..Call::to(target) }
    }

    fn signed(&self) -> SignedCall {
        self.signed_in(WireVersion::NEWEST)
    }

    fn signed_in(&self, version: WireVersion) -> SignedCall {
        keys().sign_in(version, &navigli(), &self.call(), NOW, Nonce(7)).unwrap()
    }

    fn verify(&self, header: &str) -> Result<Verified, SignatureError> {
        keys().verify(Some(header), &self.call(), NOW, &NonceCache::default())
    }
}

#[test]
fn g8_a_signed_call_is_let_through_and_names_its_caller() {
    let scene = Scene::new();
    let verified = scene.verify(scene.signed().header()).unwrap();
    assert_eq!(verified.caller(), &navigli());
    assert!(scene.signed().header().starts_with("v=2;kid="));
    assert!(scene.signed().header().contains(";role=peer;from=navigli;t=1753000000000;n="));
}

#[test]
fn g8_every_covered_part_of_a_call_counts() {
    type Mutation = (&'static str, fn(&mut Scene));

    let scene = Scene::new();
    let signed = scene.signed();
    let mutations: [Mutation; 11] = [
        ("target", |scene| scene.target = node("rome")),
        ("method", |scene| scene.method = "PUT".into()),
        ("path", |scene| scene.path = "/_/offload-session".into()),
        ("query", |scene| scene.query = "phase=done".into()),
        ("no query", |scene| scene.query.clear()),
        ("body", |scene| scene.body = b"{ }".to_vec()),
        ("no body", |scene| scene.body.clear()),
        ("session", |scene| scene.session = "eve".into()),
        ("no request id", |scene| scene.request_id.clear()),
        ("session and request id", |scene| {
            scene.session = "adar".into();
            scene.request_id = "-1".into();
        }),
        // The same bytes, cut between path and query elsewhere.
        ("cut", |scene| {
            scene.path.push_str("phase");
            scene.query = "=copy".into();
        }),
    ];
    for (part, mutate) in mutations {
        let mut other = scene.clone();
        mutate(&mut other);
        assert_eq!(other.verify(signed.header()).unwrap_err(), SignatureError::Bad, "{part}");
    }
}

#[test]
fn g8_every_part_of_the_header_counts() {
    let scene = Scene::new();
    let header = scene.signed().header().to_owned();
    let swap = |from: &str, to: &str| {
        assert!(header.contains(from), "{from}");
        scene.verify(&header.replace(from, to)).unwrap_err()
    };
    assert_eq!(swap("from=navigli", "from=brera"), SignatureError::Bad);
    assert_eq!(swap("t=1753000000000", "t=1753000000001"), SignatureError::Bad);
    assert_eq!(swap("0007;sig", "0008;sig"), SignatureError::Bad);
    // To be taken for one that covers less.
    assert_eq!(swap("v=2;", "v=1;"), SignatureError::Bad);
    for strange in ["0", "3", "02", "+2", ""] {
        let newest = WireVersion::NEWEST;
        let unknown = SignatureError::UnknownVersion { found: strange.into(), newest };
        assert_eq!(swap("v=2;", &format!("v={strange};")), unknown);
    }
    assert!(matches!(swap("role=peer", "role=operator"), SignatureError::UnknownKey { .. }));
    assert!(matches!(swap("kid=", "kid=0"), SignatureError::UnknownKey { .. }));
    let (head, sig) = header.split_once("sig=").unwrap();
    for index in 0..sig.len() {
        let mut sig = sig.as_bytes().to_vec();
        sig[index] = if sig[index] == b'A' { b'E' } else { b'A' };
        let changed = format!("{head}sig={}", String::from_utf8(sig).unwrap());
        assert!(scene.verify(&changed).is_err(), "{changed}");
    }
    for cut in ["", &sig[..40], &sig[..4]] {
        assert_eq!(scene.verify(&format!("{head}sig={cut}")).unwrap_err(), SignatureError::Bad);
    }
}

#[test]
fn g8_a_key_serves_one_function_and_one_role() {
    let scene = Scene::new();
    let header = scene.signed().header().to_owned();
    let greet = peers("the peers' secret, now", None).for_function(&function("greet"));
    let refused = greet.verify(Some(&header), &scene.call(), NOW, &NonceCache::default());
    assert!(matches!(refused, Err(SignatureError::UnknownKey { role: Role::Peer, .. })));

    // One secret in both roles still gives two keys.
    let both = Keys { operator: Some(secret("the peers' secret, now")), ..Keys::default() };
    let operator = Caller { role: Role::Operator, name: node("cli") };
    let call = scene.call();
    let signed = cart(&both).sign(&operator, &call, NOW, Nonce(1)).unwrap();
    let renamed = signed.header().replace("role=operator", "role=peer");
    assert!(scene.verify(&renamed).is_err());
}

#[test]
fn g8_a_secret_knows_itself_and_nothing_near_it() {
    let ours = secret("the operators' own secret");
    assert!(ours.is(b"the operators' own secret") && ours.is(b" the operators' own secret\n"));
    for other in ["", "the operators' own secre", "the operators' own secret!", "\0"] {
        assert!(!ours.is(other.as_bytes()), "{other:?}");
    }
}

#[test]
fn g8_an_unsigned_call_is_refused() {
    let refused = keys().verify(None, &Scene::new().call(), NOW, &NonceCache::default());
    assert_eq!(refused.unwrap_err(), SignatureError::Unsigned);
}

#[test]
fn g8_a_malformed_signature_is_refused() {
    let scene = Scene::new();
    let header = scene.signed().header().to_owned();
    let sig = format!(";sig={}", header.split_once(";sig=").unwrap().1);
    for bad in [
        String::new(),
        "sig".into(),
        "v=1".into(),
        header.replace("from=navigli", "from=A b"),
        header.replace("t=1753", "t=-1753"),
        header.replace(";t=1753000000000", ""),
        header.replace("role=peer", "role=root"),
        header.replace("0007;sig", "07;sig"),
        header.replace(&sig, ";sig=!!"),
        format!("{header};from=rome"),
        format!("{header}{}", " ".repeat(512)),
    ] {
        let error = scene.verify(&bad).unwrap_err();
        assert!(matches!(error, SignatureError::Malformed(_)), "{bad}: {error:?}");
    }
    let strange = scene.verify(&format!("v={};", "9".repeat(100))).unwrap_err();
    let newest = WireVersion::NEWEST;
    assert_eq!(strange, SignatureError::UnknownVersion { found: "9".repeat(16), newest });
}

#[test]
fn g8_a_stale_call_is_refused_on_both_sides() {
    let scene = Scene::new();
    let header = scene.signed().header().to_owned();
    let at = |now| {
        let seen = NonceCache::default();
        keys().verify(Some(&header), &scene.call(), now, &seen).map(|_| ())
    };
    assert_eq!(at(NOW + WINDOW_MS), Ok(()));
    assert_eq!(at(NOW - WINDOW_MS), Ok(()));
    let late = at(NOW + WINDOW_MS + 1).unwrap_err();
    assert_eq!(late, SignatureError::Stale { skew_ms: -60_001 });
    assert!(late.to_string().contains("61 s behind"), "{late}");
    let early = at(NOW - WINDOW_MS - 1).unwrap_err();
    assert_eq!(early, SignatureError::Stale { skew_ms: 60_001 });
    assert!(early.to_string().contains("61 s ahead of"), "{early}");
    assert!(matches!(at(0), Err(SignatureError::Stale { .. })));
    assert!(matches!(at(u64::MAX), Err(SignatureError::Stale { .. })));
}

#[test]
fn g8_a_replayed_call_is_refused() {
    let scene = Scene::new();
    let seen = NonceCache::default();
    let header = scene.signed().header().to_owned();
    let verify = |now| keys().verify(Some(&header), &scene.call(), now, &seen).map(|_| ());
    assert_eq!(verify(NOW), Ok(()));
    assert_eq!(verify(NOW), Err(SignatureError::Replayed));
    assert_eq!(verify(NOW + WINDOW_MS), Err(SignatureError::Replayed));
    // A forged call does not use up the nonce of the true one.
    let seen = NonceCache::default();
    let forged = header.replace("from=navigli", "from=brera");
    assert!(keys().verify(Some(&forged), &scene.call(), NOW, &seen).is_err());
    assert!(keys().verify(Some(&header), &scene.call(), NOW, &seen).is_ok());
}

#[test]
fn g8_the_memory_of_calls_is_bounded_and_never_lets_a_replay_through() {
    let seen = NonceCache::new(100);
    let mut accepted = Vec::new();
    for call in 0..10_000_u64 {
        let (time, nonce) = (NOW + call % 977, Nonce(u128::from(call)));
        if seen.admit(time, nonce, NOW).is_ok() {
            accepted.push((time, nonce));
        }
        assert!(seen.len() <= 100);
    }
    assert!(accepted.len() > 900, "fresh calls get through a flood: {}", accepted.len());
    for (time, nonce) in accepted {
        assert!(seen.admit(time, nonce, NOW).is_err());
    }

    let seen = NonceCache::new(100);
    seen.admit(NOW, Nonce(1), NOW).unwrap();
    seen.admit(NOW + 60_001, Nonce(2), NOW + 60_001).unwrap();
    assert_eq!(seen.len(), 1, "what is stale is forgotten");
    let set_back = seen.admit(NOW, Nonce(1), NOW + 1);
    assert_eq!(set_back, Err(Refused::TooOld), "a clock set back reopens nothing");
}

#[test]
fn g8_keys_rotate_without_a_gap() {
    let scene = Scene::new();
    let call = scene.call();
    let old = cart(&peers("the peers' secret, old", None));
    let both = cart(&peers("the peers' secret, new", Some("the peers' secret, old")));
    let new = cart(&peers("the peers' secret, new", None));
    let from_to = |from: &FunctionKeys, to: &FunctionKeys| {
        let signed = from.sign(&navigli(), &call, NOW, Nonce(1)).unwrap();
        let verified = to.verify(Some(signed.header()), &call, NOW, &NonceCache::default())?;
        let answer = verified.sign_answer(&scene.target, 200, b"ok");
        signed.check_answer(Some(&answer), 200, b"ok").expect("the caller's key signs the answer");
        Ok(())
    };
    assert_eq!(from_to(&old, &both), Ok(()));
    assert_eq!(from_to(&both, &new), Ok(()));
    assert!(matches!(from_to(&old, &new), Err(SignatureError::UnknownKey { .. })));
    let text = from_to(&old, &new).unwrap_err().to_string();
    assert!(text.contains("session-peer-key-previous"), "{text}");
}

#[test]
fn g8_without_a_key_nothing_is_signed() {
    let keys = cart(&Keys::default());
    let refused = keys.sign(&navigli(), &Scene::new().call(), NOW, Nonce(1));
    assert_eq!(refused.unwrap_err(), SignatureError::NoKey(Role::Peer));
}

#[test]
fn g8_every_covered_part_of_an_answer_counts() -> Result<(), InvalidId> {
    let scene = Scene::new();
    let signed = scene.signed();
    let verified = scene.verify(signed.header()).unwrap();
    let answer = verified.sign_answer(&scene.target, 200, b"yes");
    assert_eq!(signed.check_answer(Some(&answer), 200, b"yes"), Ok(()));

    assert_eq!(signed.check_answer(None, 200, b"yes"), Err(AnswerError::Unsigned));
    assert_eq!(signed.check_answer(Some("v=1"), 200, b"yes"), Err(AnswerError::Malformed));
    assert_eq!(signed.check_answer(Some(&answer), 200, b"no"), Err(AnswerError::Bad), "body");
    assert_eq!(signed.check_answer(Some(&answer), 409, b"yes"), Err(AnswerError::Bad), "status");
    let impostor = verified.sign_answer(&NodeName::new("rome")?, 200, b"yes");
    assert_eq!(signed.check_answer(Some(&impostor), 200, b"yes"), Err(AnswerError::Bad));
    let renamed = impostor.replace("from=rome", "from=milan");
    assert_eq!(signed.check_answer(Some(&renamed), 200, b"yes"), Err(AnswerError::Bad));

    // The same question asked later is another call.
    let version = WireVersion::NEWEST;
    let later = keys().sign_in(version, &navigli(), &scene.call(), NOW + 1, Nonce(8)).unwrap();
    assert_eq!(later.check_answer(Some(&answer), 200, b"yes"), Err(AnswerError::Bad), "nonce");
    let replayed = answer.replace("0007;sig", "0008;sig");
    assert_eq!(later.check_answer(Some(&replayed), 200, b"yes"), Err(AnswerError::Bad), "nonce");

    // A call sent back as its own answer is none.
    assert_eq!(signed.check_answer(Some(signed.header()), 200, b"{}"), Err(AnswerError::Bad));
    Ok(())
}

mod files {
    use std::path::PathBuf;

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let path =
                std::env::temp_dir().join(format!("funicular-keys-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            for (file, content) in files {
                std::fs::write(path.join(file), content).unwrap();
            }
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn secrets_are_read_without_the_whitespace_around_them() {
        let dir = Dir::new(
            "good",
            &[
                (PEER_KEY, "the peers' secret, new\n"),
                (PREVIOUS_PEER_KEY, "\tthe peers' secret, old \r\n"),
                (OPERATOR_KEY, "the operators' own secret"),
            ],
        );
        let read = Keys::from_dir(&dir.0).unwrap();
        assert_eq!(read, peers("the peers' secret, new", Some("the peers' secret, old")));
        assert!(
            !format!("{read:?} {:?}", cart(&read)).contains("secret,"),
            "secrets are not shown"
        );
    }

    #[test]
    fn keys_that_are_accepted_only_stand_one_a_line() {
        let (new, old) = ("the peers' secret, new", "the peers' secret, old");
        let lines = format!("{old}\r\n\n  {new}  \n");
        let dir = Dir::new("lines", &[(PEER_KEY, old), (PREVIOUS_PEER_KEY, &lines)]);
        let read = Keys::from_dir(&dir.0).unwrap();
        let ids = cart(&read).ids(Role::Peer);
        assert_eq!((ids.len(), &ids[0]), (3, &ids[1]));
        assert_eq!(ids[2], cart(&peers(new, None)).ids(Role::Peer)[0]);
        for bad in ["", "\n", "the peers' secret, old\nshort"] {
            let dir = Dir::new("bad-lines", &[(PEER_KEY, old), (PREVIOUS_PEER_KEY, bad)]);
            let error = Keys::from_dir(&dir.0).unwrap_err();
            assert!(matches!(error, KeyError::TooShort { .. }), "{bad:?}: {error}");
        }
    }

    #[test]
    fn a_tool_needs_the_operators_key_only() {
        let dir = Dir::new("tool", &[(OPERATOR_KEY, "the operators' own secret")]);
        assert!(Keys::from_dir(&dir.0).unwrap().peer.is_none());
    }

    #[test]
    fn g8_secrets_that_protect_nothing_are_refused() {
        let refusal = |name: &str, files: &[(&str, &str)]| {
            let dir = Dir::new(name, files);
            Keys::from_dir(&dir.0).unwrap_err().to_string()
        };
        assert!(refusal("none", &[]).contains("holds neither"));
        let short = refusal("short", &[(PEER_KEY, "  fifteen bytes..  ")]);
        assert!(short.contains("has 15 bytes and needs at least 16"), "{short}");
        let old = refusal("old", &[(PREVIOUS_PEER_KEY, "the peers' secret, old")]);
        assert!(old.contains("put the new key in place"), "{old}");
        let text = "one secret for all of them";
        let same = refusal("same", &[(PEER_KEY, text), (OPERATOR_KEY, text)]);
        assert!(same.contains("are the same"), "{same}");
        let dir = Dir::new("unreadable", &[]);
        std::fs::create_dir_all(dir.0.join(PEER_KEY)).unwrap();
        let unreadable = Keys::from_dir(&dir.0).unwrap_err();
        assert!(matches!(unreadable, KeyError::Unreadable { .. }), "{unreadable}");
    }
}

#[test]
fn g8_a_call_is_answered_in_its_own_version() {
    let scene = Scene::new();
    for version in [WireVersion::V1, WireVersion::V2] {
        let signed = scene.signed_in(version);
        let verified = scene.verify(signed.header()).unwrap();
        assert_eq!(verified.version(), version);
        let answer = verified.sign_answer(&scene.target, 200, b"yes");
        assert!(answer.starts_with(&format!("v={version};")));
        assert_eq!(signed.check_answer(Some(&answer), 200, b"yes"), Ok(()));
        let other = if version == WireVersion::V1 { ("v=1", "v=2") } else { ("v=2", "v=1") };
        assert!(signed.check_answer(Some(&answer.replace(other.0, other.1)), 200, b"yes").is_err());
    }
}

#[test]
fn g8_what_version_1_does_not_cover_version_2_does() {
    let scene = Scene::new();
    let other = Scene { session: "eve".into(), request_id: String::new(), ..scene.clone() };
    let (old, new) = (scene.signed_in(WireVersion::V1), scene.signed_in(WireVersion::V2));
    assert!(other.verify(old.header()).is_ok());
    assert_eq!(other.verify(new.header()).unwrap_err(), SignatureError::Bad);

    let place = "http://milan.example:8080/function/cart/items";
    for signed in [old, new] {
        let verified = scene.verify(signed.header()).unwrap();
        let answer = verified.sign_response(&scene.target, 307, place, b"");
        assert_eq!(signed.check_response(Some(&answer), 307, place, b""), Ok(()));
        let elsewhere = signed.check_response(Some(&answer), 307, "http://rome.example", b"");
        assert_eq!(elsewhere.is_ok(), verified.version() == WireVersion::V1);
    }
}

#[test]
fn g8_a_node_that_is_held_to_the_version_before_reads_no_other() {
    let scene = Scene::new();
    let verify = |signed: &SignedCall| {
        let (newest, seen) = (WireVersion::V1, NonceCache::default());
        keys().verify_up_to(newest, Some(signed.header()), &scene.call(), NOW, &seen)
    };
    assert!(verify(&scene.signed_in(WireVersion::V1)).is_ok());
    let refused = verify(&scene.signed_in(WireVersion::V2)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the call has version 2 and this node reads up to 1; bring both to releases next to \
         each other"
    );
}
