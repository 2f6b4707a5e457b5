//! What people write, and what it comes to: through [`load`], as the process does it.

use std::fs;

use super::*;

fn loaded(args: &[&str], env: &[(&str, &str)]) -> Result<Command, ConfigError> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(["chatnode"].iter().chain(args), env)
}

fn config(args: &[&str], env: &[(&str, &str)]) -> Config {
    match loaded(args, env) {
        Ok(Command::Run(config)) => *config,
        other => panic!("{other:?}"),
    }
}

fn error(args: &[&str], env: &[(&str, &str)]) -> String {
    loaded(args, env).map(|command| panic!("{command:?}")).unwrap_err().to_string()
}

fn dump(args: &[&str], env: &[(&str, &str)]) -> String {
    match loaded(&[&["check-config"], args].concat(), env) {
        Ok(Command::Print(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// A file with this text, and `--config` for it.
struct Toml(tempfile::TempDir, String);

impl Toml {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("my.toml").to_str().unwrap().to_owned();
        fs::write(&path, text).unwrap();
        Self(dir, path)
    }

    fn config(&self) -> Config {
        config(&["--config", &self.1], &[])
    }

    /// Without the directory, whose name differs each time.
    fn error(&self) -> String {
        self.short(&error(&["--config", &self.1], &[]))
    }

    fn short(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn a_file_that_says_nothing_changes_nothing() {
    for text in ["", "# nothing yet\n", "[log]\n"] {
        assert_eq!(format!("{:?}", Toml::new(text).config()), format!("{:?}", config(&[], &[])), "{text:?}");
    }
}

#[test]
fn the_default_file_gives_every_documented_number() {
    let config = config(&[], &[]);
    assert_eq!(config.roles, Roles::BOTH);
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.deployment, Deployment::Embedded(DataDir::Path("data".into())));
    assert!(config.node_id.ends_with(":8080") && config.node_id.len() > 5, "{}", config.node_id);
    assert_eq!((config.ai.lease, config.ai.renewal), (Duration::from_secs(6), Duration::from_secs(2)));
    assert_eq!(config.drain, Duration::from_secs(60));
    assert_eq!((config.gateway.outbox_bytes_max, config.gateway.import_bytes_max), (256 << 10, 32 << 20));
    assert_eq!(config.ai.deadlines.total, Duration::from_secs(1800));
    assert!(matches!(config.ai.models, ModelSource::Discovered(found) if found == Discovery::default()));
}

#[test]
fn a_model_may_be_short_and_for_admins() {
    let head = "[[models]]\nid = \"m\"\nprovider = \"demo\"\n";
    let model = |text: &str| match Toml::new(&format!("{head}{text}")).config().ai.models {
        ModelSource::Configured(models) => (models[0].max_tokens, models[0].max_tokens_cap, models[0].admin_only),
        found => panic!("{found:?}"),
    };
    assert_eq!(model(""), (None, None, false));
    assert_eq!(model("max_tokens = 5\nmax_tokens_cap = 5\nadmin_only = true"), (Some(5), Some(5), true));
    let said = |text: &str| Toml::new(&format!("{head}{text}")).error();
    assert!(said("max_tokens = 6\nmax_tokens_cap = 5").contains("models[0].max_tokens is more than max_tokens_cap"));
    assert!(said("max_tokens_cap = 0").contains("models[0].max_tokens_cap must be a whole number from 1 to"));
    assert!(said("admin_only = \"yes\"").contains("models[0].admin_only must be true or false"));
}

#[test]
fn limits_are_numbers_and_nothing_is_none() {
    let most = |limits: AskerLimits| {
        [limits.requests_per_minute, limits.connections, limits.running].map(|most| most.map_or(0, NonZeroU32::get))
    };
    let limits = config(&[], &[]).gateway.limits;
    assert_eq!((most(limits.user), most(limits.address)), ([300, 200, 50], [6_000, 5_000, 1_000]));
    let file = Toml::new("[limits.user]\nrequests_per_minute_max = 0\nrunning_max = 7\n[limits.address]\nconnections_max = 0\n");
    let limits = file.config().gateway.limits;
    assert_eq!((most(limits.user), most(limits.address)), ([0, 200, 7], [6_000, 0, 1_000]));
    let said = |text: &str| Toml::new(text).error();
    assert!(
        said("[limits.user]\nrunning_max = -1").contains("limits.user.running_max must be a whole number from 0 to 1000000, not")
    );
    assert!(
        said("[limits.user]\nrunning = 1")
            .contains("there is no key limits.user.running, the nearest is limits.user.running_max")
    );
    assert!(said("[limits]\nconnections_max = 1").contains("there is no key limits.connections_max"));
    assert_eq!(limits.tokens, None);
    let tokens = |text: &str| Toml::new(&format!("[limits.user]\n{text}")).config().gateway.limits.tokens;
    assert_eq!(tokens("tokens_per_day = 50_000"), Some(TokenLimit { per_day: 50_000, answer: 4_096 }));
    assert_eq!(tokens("tokens_per_day = 100\nanswer_tokens_reserved = 99"), Some(TokenLimit { per_day: 100, answer: 99 }));
    assert!(said("[limits.user]\ntokens_per_day = 4_096").contains("tokens_per_day is not more than answer_tokens_reserved"));
    assert!(said("[limits.address]\ntokens_per_day = 9").contains("there is no key limits.address.tokens_per_day"));
    let dump = dump(&[], &[]);
    assert!(dump.contains("[limits.user]\nrequests_per_minute_max = 300\nconnections_max = 200\n"), "{dump}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = Toml::new("[node]\nlisten = '127.0.0.1:1'\nid = 'file'\nrole = 'ai'\n");
    let env = [("CHATNODE_CONFIG", file.1.as_str()), ("CHATNODE_LISTEN", "127.0.0.1:2"), ("CHATNODE_NODE_ID", "env")];
    let config = config(&["--listen", "127.0.0.1:3"], &env);
    assert_eq!((config.listen.port(), config.node_id.as_str(), config.roles), (3, "env", Roles::AI));
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let config = config(&[], &[("CHATNODE_REDIS_URL", ""), ("CHATNODE_ROLE", " "), ("OPENAI_BASE_URL", "")]);
    assert_eq!(config.roles, Roles::BOTH);
    assert!(matches!(config.deployment, Deployment::Embedded(_)));
}

#[test]
fn roles_are_a_set() {
    for (text, roles) in [("all", Roles::BOTH), ("gateway", Roles::GATEWAY), ("ai", Roles::AI), ("gateway,ai", Roles::BOTH)] {
        assert_eq!(config(&["--role", text], &[]).roles, roles);
    }
    assert_eq!(error(&["--role", ""], &[]), "--role: node.role is missing");
    assert_eq!(error(&["--role", "gatway"], &[]), "--role: node.role must be gateway, ai, all or gateway,ai, not \"gatway\"");
}

#[test]
fn a_mistake_is_one_sentence_with_file_key_and_nearest_key() {
    let cases = [
        ("[ai]\nleese_ms = 5", "my.toml: there is no key ai.leese_ms, the nearest is ai.lease_ms"),
        ("lease_ms = 5", "my.toml: there is no key lease_ms, the nearest is ai.lease_ms"),
        ("lisen = 'x'", "my.toml: there is no key lisen, the nearest is node.listen"),
        ("mode = 'local'", "my.toml: there is no key mode, the nearest is auth.mode"),
        ("[gatway]\nping_ms = 5", "my.toml: there is no key gatway.ping_ms, the nearest is gateway.ping_ms"),
        ("[ai]\nlease_ms = 'six'", "my.toml: ai.lease_ms must be a whole number from 200 to 3600000, not \"six\""),
        ("[ai]\ncapacity = 0", "my.toml: ai.capacity must be a whole number from 1 to 100000, not \"0\""),
        ("[ai]\ncapacity = -1", "my.toml: ai.capacity must be a whole number from 1 to 100000, not \"-1\""),
        ("ai = 3", "my.toml: ai must be a table, as in [ai]"),
        ("[log]\nlevel = 'inof'", "my.toml: log.level has no level \"inof\", the nearest is info"),
        ("[log]\nformat = 'xml'", "my.toml: log.format must be \"text\" or \"json\", not \"xml\""),
        ("[node]\nid = 'a b'", "my.toml: node.id must be at most 100 of a-z A-Z 0-9 - _ . :, not \"a b\""),
        ("[node]\nid = 'a'\nid = 'b'", "my.toml: line 3: duplicate key"),
        ("models = 3", "my.toml: models must be tables, as in [[models]]"),
        ("[[models]]\nprovider = 'demo'", "my.toml: models[0].id is missing"),
        (
            "[[models]]\nid = 'a'\nprovider = 'demo'\n[[models.fallbacks]]\nbase = 1\nprovider = 'demo'",
            "my.toml: there is no key models[0].fallbacks[0].base, the nearest is models[0].fallbacks[0].base_url",
        ),
        (
            "[[models]]\nid = 'a'\nprovider = 'openai'\nbase_url = 'ftp://u:secret@x'",
            "my.toml: models[0].base_url must be an http or https address like \"https://api.example.org/v1\", not \"ftp://***@x\"",
        ),
        (
            "[ai]\nrenewal_ms = 3000",
            "my.toml: ai.renewal_ms must be less than half of ai.lease_ms, so that one lost \
             renewal costs no lease",
        ),
        ("[cluster]\nevents_stream = 'a.b'", "my.toml: cluster.events_stream must be 1 to 32 of a-z A-Z 0-9 - _"),
        (
            "[cluster]\nredis_url = 'redis://u:secret@x'",
            "my.toml: cluster.redis_url is set, but cluster.nats_url is not: a cluster needs both, one node neither",
        ),
        (
            "[gateway]\nallowed_origins = ['https://a.b/c']",
            "my.toml: gateway.allowed_origins must hold origins like \"https://chat.example.org\", without a path, not \
             \"https://a.b/c\"",
        ),
    ];
    for (text, sentence) in cases {
        assert_eq!(Toml::new(text).error(), sentence);
    }
}

#[test]
fn the_command_line_and_the_environment_are_named_too() {
    assert_eq!(error(&["--lissen", "x"], &[]), "command line: unexpected argument '--lissen' found; the nearest is --listen");
    assert_eq!(error(&["chek-config"], &[]), "command line: unrecognized subcommand 'chek-config'; the nearest is check-config");
    let typo = error(&[], &[("CHATNODE_REDIS_URI", "x")]);
    assert_eq!(typo, "environment: there is no variable CHATNODE_REDIS_URI, the nearest is CHATNODE_REDIS_URL");
    let listen = error(&[], &[("CHATNODE_LISTEN", "8080")]);
    assert!(listen.starts_with("CHATNODE_LISTEN: node.listen must be HOST:PORT"), "{listen}");
    // What Kubernetes sets for a service called chatnode.
    config(&[], &[("CHATNODE_PORT", "tcp://10.0.0.1:8080"), ("CHATNODE_SERVICE_HOST", "10.0.0.1")]);
    let missing = error(&["--config", "/nowhere/x.toml"], &[]);
    assert!(missing.starts_with("/nowhere/x.toml can't be read: "), "{missing}");
}

#[test]
fn other_machines_are_let_in_only_when_told_so() {
    let refused = error(&["--listen", "0.0.0.0:80"], &[]);
    assert!(refused.starts_with("--listen: node.listen is 0.0.0.0:80, which other machines can reach"), "{refused}");
    assert!(refused.contains("anonymous = \"anywhere\" under [auth]"), "{refused}");
    config(&["--listen", "0.0.0.0:80", "--role", "ai"], &[]);
    assert_eq!(config(&["--listen", "[::1]:80"], &[]).listen.port(), 80);
    assert!(config(&["--listen", "localhost:80"], &[]).listen.is_ipv4());
    let anywhere = Toml::new("[node]\nlisten = '0.0.0.0:80'\n[auth]\nanonymous = 'anywhere'\n");
    assert_eq!(anywhere.config().listen.port(), 80);
    config(&["--listen", "0.0.0.0:80", "--anonymous", "anywhere"], &[]);
    config(&["--listen", "0.0.0.0:80"], &[("CHATNODE_ANONYMOUS", "anywhere")]);
    // Who has to log in may come from anywhere.
    let login = config(&["--listen", "0.0.0.0:80", "--auth", "local"], &[]);
    assert!(matches!(login.gateway.auth, AuthConfig::Login(LoginConfig { local: true, .. })));
    assert_eq!(config(&[], &[]).gateway.auth, AuthConfig::Anonymous);
}

#[test]
fn ways_to_log_in_are_words_that_fit_together() {
    assert_eq!(error(&["--auth", "lokal"], &[]), "--auth: auth.mode must be none, or some of local,oidc,jwt, not \"lokal\"");
    assert_eq!(
        error(&["--auth", "none,local"], &[]),
        "--auth: auth.mode must be none, or some of local,oidc,jwt, not \"none,local\""
    );
    let jwt = |keys: &str| Toml::new(&format!("[auth]\nmode = 'local,jwt'\n[auth.jwt]\n{keys}\n"));
    let named = "issuer = 'https://issuer'\naudience = 'chat'\n";
    assert!(jwt(named).error().starts_with("my.toml: auth.jwt.jwks_url is missing"), "{}", jwt(named).error());
    assert_eq!(jwt("jwks_url = 'https://issuer/keys'").error(), "my.toml: auth.jwt.issuer is missing");
    let short = jwt(&format!("{named}secret = 'short'")).error();
    assert_eq!(short, "my.toml: auth.jwt.secret must have at least 32 bytes");
    let plain = jwt(&format!("{named}jwks_url = 'http://issuer/keys'")).error();
    assert!(plain.contains("must be an https address"), "{plain}");
    let whole = jwt(&format!("{named}secret = '{}'", "s3cret".repeat(6)));
    let AuthConfig::Login(login) = whole.config().gateway.auth else { panic!() };
    assert!(login.local && login.jwt.is_some() && !format!("{login:?}").contains("s3cret"));
    assert!(!dump(&["--config", &whole.1], &[]).contains("s3cret"));
    let oidc = |keys: &str| Toml::new(&format!("[auth]\nmode = 'oidc'\n[auth.oidc]\n{keys}\n"));
    let named = "issuer = 'https://sso/realm'\nclient_id = 'chat'\n";
    for (keys, problem) in [
        ("client_id = 'chat'", "issuer is missing"),
        ("issuer = 'https://sso'", "client_id is missing"),
        ("issuer = 'http://sso'", "issuer must be an https address"),
        ("issuer = 'https://sso?x=1'", "issuer must be an https address"),
        ("issuer = 'sso'", "issuer must be an https address"),
        (&format!("{named}scopes = 'profile'"), "scopes must hold openid"),
        (
            &format!("{named}client_secret = 'a'\nclient_secret_file = 'b'"),
            "client_secret and auth.oidc.client_secret_file say the",
        ),
        (&format!("{named}client_secret_file = '/nowhere'"), "client_secret_file"),
        (&format!("{named}name = '{}'", "x".repeat(61)), "name must have at most 60 characters"),
    ] {
        let error = oidc(keys).error();
        assert!(error.starts_with(&format!("my.toml: auth.oidc.{problem}")) && error.lines().count() == 1, "{keys}: {error}");
    }
    let whole = oidc(&format!("{named}client_secret = 's3cret'"));
    let AuthConfig::Login(login) = whole.config().gateway.auth else { panic!() };
    assert!(!login.local && login.oidc.is_some() && !format!("{login:?}").contains("s3cret"));
    assert!(!dump(&["--config", &whole.1], &[]).contains("s3cret"));
    let near = oidc("issuer = 'http://127.0.0.1:8080/realm'\nclient_id = 'chat'").config().gateway.auth;
    assert!(matches!(near, AuthConfig::Login(LoginConfig { oidc: Some(_), .. })), "this machine needs no https");
    let url = Toml::new("[gateway]\npublic_url = 'chat.example.org'\n").error();
    assert!(url.starts_with("my.toml: gateway.public_url must be an address like"), "{url}");
    let proxies = Toml::new("[gateway]\ntrusted_proxies = ['nginx']\n").error();
    assert!(proxies.starts_with("my.toml: gateway.trusted_proxies must hold addresses like"), "{proxies}");
}

#[test]
fn the_example_models_of_the_default_file_are_valid() {
    let (_, text) = DEFAULT_TOML.split_once("\n# [[models]]\n").unwrap();
    let text: Vec<&str> = text.lines().map(|line| line.strip_prefix('#').unwrap()).collect();
    let file = Toml::new(&format!("[[models]]\n{}", text.join("\n")));
    let ModelSource::Configured(models) = config(&["--config", &file.1], &[("OPENAI_API_KEY", "k")]).ai.models else { panic!() };
    let [model] = &models[..] else { panic!("{models:?}") };
    assert_eq!((model.id.as_str(), model.upstreams.len()), ("gpt-5", 2));
    assert_eq!(model.upstreams[0].api_key.as_ref().unwrap().reveal(), "k");
    assert_eq!((model.upstreams[1].provider, model.upstreams[1].model.as_str()), (ProviderKind::Ollama, "qwen3:8b"));
    assert_eq!((model.deadlines.first_token.as_secs(), model.deadlines.idle.as_secs()), (300, 60));
}

#[test]
fn secrets_come_from_files_and_variables_and_show_in_no_dump() {
    let secret = Toml::new("topsecret\n");
    let text = format!(
        "[cluster]\nredis_url = 'rediss://me:topsecret@r:1/0?sentinelPassword=topsecret'\nnats_url_file = '{0}'\n\
         [[models]]\nid = 'a'\nprovider = 'openai'\nbase_url = 'http://u:topsecret@x/v1/'\napi_key = 'topsecret'\n\
         [[models.fallbacks]]\nprovider = 'anthropic'\napi_key_file = '{0}'\n",
        secret.1
    );
    let file = Toml::new(&text);
    let config = file.config();
    let Deployment::Cluster { nats_url, .. } = &config.deployment else { panic!() };
    assert_eq!(nats_url.reveal(), "topsecret");
    let ModelSource::Configured(models) = &config.ai.models else { panic!() };
    assert!(models[0].upstreams.iter().all(|upstream| upstream.api_key.as_ref().unwrap().reveal() == "topsecret"));
    assert_eq!(models[0].upstreams[0].base_url, "http://u:topsecret@x/v1");
    let dump = dump(&["--config", &file.1], &[]);
    assert!(!dump.contains("topsecret"), "{dump}");
    for line in
        ["redis_url = \"rediss://***@r:1/0?sentinelPassword=***\"", "api_key = \"***\"", "base_url = \"http://***@x/v1/\""]
    {
        assert!(dump.contains(line), "{line} in {dump}");
    }
    let dump = self::dump(&[], &[("OPENAI_API_KEY", "topsecret"), ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")]);
    assert!(dump.contains("# OPENAI_API_KEY = ***") && dump.contains("OPENAI_BASE_URL = http://127.0.0.1:1/v1"), "{dump}");
}

#[test]
fn a_higher_layer_chooses_how_a_secret_is_given() {
    let file = Toml::new("[cluster]\nredis_url_file = '/nowhere'\nnats_url = 'nats://n'\n");
    let args = ["--config", &file.1, "--redis-url", "redis://flag"];
    let Deployment::Cluster { redis_url, .. } = config(&args, &[]).deployment else { panic!() };
    assert_eq!(redis_url.reveal(), "redis://flag");
    assert!(!dump(&args, &[]).contains("redis_url_file"));
    let twice = Toml::new("[cluster]\nredis_url_file = '/nowhere'\nredis_url = 'redis://r'\n");
    assert_eq!(twice.error(), "my.toml: cluster.redis_url and cluster.redis_url_file say the same thing: keep one of them");
    // Back to one node, whatever the file says.
    let args = ["--config", &file.1, "--redis-url", "", "--nats-url", ""];
    assert!(matches!(config(&args, &[]).deployment, Deployment::Embedded(_)));
}

#[test]
fn a_dump_is_a_file_that_says_the_same() {
    let file =
        Toml::new("[ai]\ncapacity = 3\n[[models]]\nid = 'a'\nprovider = 'demo'\n[[models]]\nid = 'b'\nprovider = 'demo'\n");
    let first = dump(&["--config", &file.1, "--log", "debug"], &[]);
    assert!(first.contains(&format!("capacity = 3  # {}", file.1)) && first.contains("level = \"debug\"  # --log"), "{first}");
    let again = Toml::new(&first);
    let values = |text: &str| text.lines().map(|line| line.split("  #").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&dump(&["--config", &again.1], &[])), values(&first));
}

#[test]
fn a_conversation_lingers_at_least_a_moment() {
    let none = Toml::new("[gateway]\nlinger_ms = 0").error();
    assert_eq!(none, "my.toml: gateway.linger_ms must be a whole number from 100 to 3600000, not \"0\"");
}

#[test]
fn ollama_host_is_read_as_ollama_does() {
    for (text, url) in [
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("0.0.0.0:1234", "http://127.0.0.1:1234"),
        ("https://o.example", "https://o.example"),
        ("http://o.example/below", "http://o.example/below"),
        ("o.example:nonsense", "http://o.example:11434"),
        (":1234", "http://127.0.0.1:1234"),
        (" '::1' ", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::]:1234", "http://127.0.0.1:1234"),
        ("fe80::1:1234", "http://[fe80::1:1234]:11434"),
    ] {
        let ModelSource::Discovered(found) = config(&[], &[("OLLAMA_HOST", text)]).ai.models else { panic!() };
        assert_eq!(found.ollama_host.unwrap(), url);
    }
}

#[test]
fn status_asks_an_address_and_needs_no_configuration() {
    let asked = |args: &[&str]| match loaded(&[&["status"], args].concat(), &[("CHATNODE_LISTEN", "nonsense")]) {
        Ok(Command::Status(url, _)) => url.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(&[]), "http://127.0.0.1:8080/");
    assert_eq!(asked(&["--url", "https://chat.example.org/below"]), "https://chat.example.org/below");
    for bad in ["127.0.0.1:8080", "ftp://a", "http://", ""] {
        assert_eq!(error(&["status", "--url", bad], &[]), "command line: --url must be an address like http://127.0.0.1:8080");
    }
}

#[test]
fn a_certificate_is_two_files_that_fit_and_operators_may_have_an_address_of_their_own() {
    let config = config(&["--admin-listen", "localhost:9090"], &[]);
    assert_eq!(config.http.admin_listen.map(|address| address.port()), Some(9090));
    assert!(config.gateway.admin_apart && !config.gateway.tls && config.http.tls.is_none());
    assert_eq!((config.http.head_timeout, config.http.connections_max), (Duration::from_secs(10), 20_000));
    let same = error(&["--admin-listen", "127.0.0.1:8080"], &[]);
    assert_eq!(same, "--admin-listen: node.admin_listen must be another address than node.listen");
    assert!(error(&[], &[("CHATNODE_ADMIN_LISTEN", "9090")]).contains("node.admin_listen must be HOST:PORT"));
    let head = Toml::new("[http]\nhead_timeout_ms = 3600000").error();
    assert_eq!(head, "my.toml: http.head_timeout_ms must be a whole number from 100 to 60000, not \"3600000\"");
    let half = error(&["--tls-key", "key.pem"], &[]);
    assert_eq!(half, "--tls-key: tls.key is set, but tls.certificate is not: both or neither");
    let both = |certificate: &str, key: &str| error(&["--tls-certificate", certificate, "--tls-key", key], &[]);
    let missing = both("/nowhere/certificate.pem", "/nowhere/key.pem");
    assert!(missing.contains("tls.certificate or tls.key names a file, but /nowhere/certificate.pem can't be read"), "{missing}");
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let nothing = file("nothing.pem", "not a certificate");
    let no_certificate = both(&nothing, &nothing);
    assert!(no_certificate.ends_with("can't be used: there is no certificate in PEM form in it"), "{no_certificate}");
}
