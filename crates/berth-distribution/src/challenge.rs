//! `WWW-Authenticate`: what a server wants to know before it answers (RFC 9110, section 11.6.1).

/// One challenge of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from somewhere else.
    Bearer(Bearer),
}

/// Where to get a token, and for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bearer {
    /// URL of the token server.
    pub realm: String,
    /// Whom the token is for.
    pub service: String,
    /// What the request would have needed.
    pub scope: String,
    /// Why the token that was sent is not enough, such as `insufficient_scope`.
    pub error: String,
}

impl Challenge {
    /// The first challenge known here, of all that the headers hold.
    pub fn first<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let all: Vec<Self> = headers.into_iter().flat_map(read).collect();
        // A token is asked for before a password is shown to anybody.
        let bearer = all.iter().find(|challenge| matches!(challenge, Self::Bearer(_)));
        bearer.or_else(|| all.first()).cloned()
    }
}

/// All challenges of one header. What is not understood is passed over.
fn read(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header;
    while let Some((scheme, after)) = token(rest.trim_start_matches([' ', ',', '\t'])) {
        let (pairs, after) = parameters(after);
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => found.push(Challenge::Basic),
            "bearer" => {
                let value = |key: &str| {
                    let pair = pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
                    pair.map(|(_, value)| value.clone()).unwrap_or_default()
                };
                let (realm, service, scope, error) = (value("realm"), value("service"), value("scope"), value("error"));
                found.push(Challenge::Bearer(Bearer { realm, service, scope, error }));
            }
            _ => {}
        }
        rest = after;
    }
    found
}

/// The `key=value` pairs that follow a scheme, up to the next scheme.
fn parameters(mut text: &str) -> (Vec<(&str, String)>, &str) {
    let mut pairs = Vec::new();
    loop {
        let start = text.trim_start_matches([' ', ',', '\t']);
        let Some((key, after)) = token(start) else { return (pairs, skip_token68(start)) };
        let Some(value) = after.trim_start().strip_prefix('=') else {
            // No equals sign: that was the scheme of the next challenge.
            return (pairs, start);
        };
        let Some((value, after)) = value_of(value.trim_start()) else { return (pairs, "") };
        pairs.push((key, value));
        text = after;
    }
}

/// Some schemes carry one lump of base64 instead of pairs.
fn skip_token68(text: &str) -> &str {
    text.trim_start_matches(|c: char| !matches!(c, ',' | ' '))
}

fn token(text: &str) -> Option<(&str, &str)> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let end = text.bytes().position(|b| !word(b)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: &str, scope: &str) -> Option<Challenge> {
        let (realm, service, scope) = (realm.to_owned(), service.to_owned(), scope.to_owned());
        Some(Challenge::Bearer(Bearer { realm, service, scope, error: String::new() }))
    }

    #[test]
    fn challenges_of_registries_are_understood() {
        for (header, means) in [
            (r#"Basic realm="R""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://a/token",service="reg",scope="repository:x/y:pull,push""#,
                bearer("https://a/token", "reg", "repository:x/y:pull,push"),
            ),
            (r#"bearer  Realm = "https://a" , service=plain"#, bearer("https://a", "plain", "")),
            (r#"Basic realm="a, Bearer realm=b", Bearer realm="https://c""#, bearer("https://c", "", "")),
            (r#"Negotiate, Bearer realm="https://c\"d""#, bearer("https://c\"d", "", "")),
            (r#"Negotiate YWJj==, Basic realm="x""#, Some(Challenge::Basic)),
            ("Digest realm=x", None),
            ("", None),
            (r#"Bearer realm="cut"#, bearer("", "", "")),
        ] {
            assert_eq!(Challenge::first([header]), means, "{header}");
        }
        let error = Challenge::first([r#"Bearer realm="r",error="insufficient_scope""#]);
        assert!(matches!(error, Some(Challenge::Bearer(Bearer { error, .. })) if error == "insufficient_scope"));
        assert_eq!(Challenge::first(["Basic", "Bearer realm=x"]), bearer("x", "", ""));
    }

    proptest! {
        #[test]
        fn no_header_breaks_the_parser(header in "[ -~]{0,80}", words in prop::collection::vec("(Bearer|Basic|realm|=|\"|,| |\\\\|a)", 0..20)) {
            let _ = Challenge::first([header.as_str()]);
            let _ = Challenge::first([words.concat().as_str()]);
        }

        #[test]
        fn what_is_quoted_comes_out_as_it_was(realm in "[ -~]{0,40}") {
            let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!("Bearer realm=\"{quoted}\",service=s");
            prop_assert_eq!(Challenge::first([header.as_str()]), bearer(&realm, "s", ""));
        }
    }
}
