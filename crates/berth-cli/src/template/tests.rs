//! What Go's text/template prints and refuses, template by template. The expectations are those of the reference client.

use std::rc::Rc;

use serde_json::json;

use super::{Map, MissingKey, Template, Value};

fn data() -> Value {
    Value::json(&json!({
        "s": "hello", "n": 5, "big": 123_456_789_012_u64, "f": 1.5, "t": true, "nil": null,
        "list": ["a", "b", "c"], "nums": [1, 2, 3], "map": {"b": 1, "a": "x", "c": [1, {"z": null}]},
        "empty": [], "em": {}, "h": "<a href=\"x\">&'</a>", "u": "ünïcödé – 漢字",
        "deep": {"a": {"b": {"c": "d"}}}, "objs": [{"k": "1", "v": "x"}, {"k": "2", "v": "y"}],
    }))
}

fn run(template: &str) -> Result<String, String> {
    let parsed = Template::parse(template).map_err(|error| error.to_string())?;
    parsed.execute(data(), MissingKey::NoValue).map_err(|error| error.to_string())
}

#[test]
fn templates_print_what_go_prints() {
    for (template, want) in TABLE {
        let want = want.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(run(template), want, "{template}");
    }
}

#[test]
fn large_numbers_stay_whole() {
    let template = Template::parse("{{.}} {{json .}} {{printf \"%d\" .}}").expect("template");
    let largest = template.execute(Value::json(&json!(u64::MAX)), MissingKey::NoValue);
    assert_eq!(largest.as_deref(), Ok("18446744073709551615 18446744073709551615 18446744073709551615"));
}

#[test]
fn missing_keys_can_be_errors() {
    let template = Template::parse("{{.missing}}").expect("template");
    let error = template.execute(data(), MissingKey::Error).expect_err("missing");
    assert_eq!(error.to_string(), "template: :1:2: executing \"\" at <.missing>: map has no entry for key \"missing\"");
}

#[test]
fn the_index_of_a_typed_map_is_never_absent() {
    let labels =
        Map { go_type: "map[string]string", is_nil: false, zero: Value::text(""), entries: Default::default() };
    let template = Template::parse("[{{index . \"a\"}}] {{.a}}").expect("template");
    assert_eq!(template.execute(Value::Map(Rc::new(labels)), MissingKey::NoValue).as_deref(), Ok("[] <no value>"));
}

#[test]
fn named_templates_show_their_name_in_errors() {
    let template = Template::parse_named("version", "{{.s.x}}").expect("template");
    let error = template.execute(data(), MissingKey::NoValue).expect_err("no field");
    assert!(error.to_string().starts_with("template: version:1:4: executing \"version\" at <.s.x>: "), "{error}");
    let error = Template::parse_named("version", "{{").expect_err("unclosed");
    assert_eq!(error.to_string(), "template: version:1: unclosed action");
}

#[test]
fn hostile_templates_end() {
    let deep = "{{if .t}}".repeat(5000);
    assert!(run(&deep).is_err());
    assert!(run(&format!("{{{{{}1{}}}}}", "(".repeat(5000), ")".repeat(5000))).is_err());
    assert!(run("{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}").is_err());
    let flood = "{{range 100000}}{{printf \"%999999d\" 1}}{{end}}";
    assert!(run(flood).is_err_and(|error| error.contains("output exceeds")));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\{\\{|\\}\\}|[ .$|()\"`'=:,a-z0-9-]|if |range |end|else|with |/\\*|\\*/|printf |\\n){0,40}") {
        let _ = run(&text);
    }
}

const TABLE: &[(&str, Result<&str, &str>)] = &[
    ("{{.s}}", Ok("hello")),
    ("{{.list}} {{.map}} {{.nums}} {{.empty}} {{.em}}", Ok("[a b c] map[a:x b:1 c:[1 map[z:<nil>]]] [1 2 3] [] map[]")),
    ("{{.missing}}", Ok("<no value>")),
    ("{{.missing.foo}}", Ok("<no value>")),
    ("{{.nil.foo}}", Err(r#"template: :1:6: executing "" at <.nil.foo>: nil pointer evaluating interface {}.foo"#)),
    ("{{.deep.a.b.c}} {{.deep.a}}", Ok("d map[b:map[c:d]]")),
    ("{{.deep.x.y}}", Ok("<no value>")),
    ("{{.s.foo}}", Err(r#"template: :1:4: executing "" at <.s.foo>: can't evaluate field foo in type interface {}"#)),
    (
        "{{.list.foo}}",
        Err(r#"template: :1:7: executing "" at <.list.foo>: can't evaluate field foo in type interface {}"#),
    ),
    (
        "{{json .}}",
        Ok(
            r#"{"big":123456789012,"deep":{"a":{"b":{"c":"d"}}},"em":{},"empty":[],"f":1.5,"h":"<a href=\"x\">&'</a>","list":["a","b","c"],"map":{"a":"x","b":1,"c":[1,{"z":null}]},"n":5,"nil":null,"nums":[1,2,3],"objs":[{"k":"1","v":"x"},{"k":"2","v":"y"}],"s":"hello","t":true,"u":"ünïcödé – 漢字"}"#,
        ),
    ),
    ("{{json .h}}", Ok(r#""<a href=\"x\">&'</a>""#)),
    ("{{json .list}}|{{json .missing}}|{{json .u}}", Ok(r#"["a","b","c"]|null|"ünïcödé – 漢字""#)),
    ("{{if .t}}yes{{else}}no{{end}}", Ok("yes")),
    ("{{if .empty}}yes{{else if .s}}elif{{else}}no{{end}}", Ok("elif")),
    ("{{if not .em}}yes{{end}}", Ok("yes")),
    ("{{range .list}}[{{.}}]{{end}}", Ok("[a][b][c]")),
    ("{{range $i, $e := .list}}{{$i}}={{$e}},{{end}}", Ok("0=a,1=b,2=c,")),
    ("{{range $e := .list}}{{$e}},{{end}}", Ok("a,b,c,")),
    ("{{range $k, $v := .map}}{{$k}}:{{$v}};{{end}}", Ok("a:x;b:1;c:[1 map[z:<nil>]];")),
    ("{{range .empty}}x{{else}}none{{end}}", Ok("none")),
    ("{{range .nil}}x{{else}}none{{end}}", Ok("none")),
    ("{{range .missing}}x{{else}}none{{end}}", Ok("none")),
    ("{{range .s}}x{{end}}", Err(r#"template: :1:8: executing "" at <.s>: range can't iterate over hello"#)),
    ("{{range 3}}{{.}}{{end}}", Ok("012")),
    ("{{range $i := 3}}{{$i}}{{end}}", Ok("012")),
    (r#"{{range .list}}{{if eq . "b"}}{{continue}}{{end}}{{.}}{{end}}"#, Ok("ac")),
    (r#"{{range .list}}{{if eq . "b"}}{{break}}{{end}}{{.}}{{end}}"#, Ok("a")),
    ("{{break}}", Err("template: :1: {{break}} outside {{range}}")),
    ("{{with .s}}{{.}}{{end}}", Ok("hello")),
    ("{{with .missing}}x{{else}}y{{end}}", Ok("y")),
    ("{{with .missing}}x{{else with .s}}{{.}}{{end}}", Ok("hello")),
    ("{{with $x := .s}}{{$x}}{{end}}", Ok("hello")),
    ("{{$x := 1}}{{$x}}{{$x = 2}}{{$x}}", Ok("12")),
    ("{{$y}}", Err(r#"template: :1: undefined variable "$y""#)),
    (r#"{{define "T"}}[{{.}}]{{end}}{{template "T" .s}}"#, Ok("[hello]")),
    (
        r#"{{template "nope"}}"#,
        Err(r#"template: :1:11: executing "" at <{{template "nope"}}>: template "nope" not defined"#),
    ),
    (r#"{{block "B" .s}}({{.}}){{end}}"#, Ok("(hello)")),
    (r#"{{template "T"}}{{define "T"}}x{{.}}{{end}}"#, Ok("x<no value>")),
    ("a {{- .s -}} b", Ok("ahellob")),
    ("a {{- /* comment */ -}} b", Ok("ab")),
    ("{{/* c */}}x", Ok("x")),
    ("{{/* c */ }}x", Err("template: :1: comment ends before closing delimiter")),
    ("{{/* c", Err("template: :1: unclosed comment")),
    ("{{.s", Err("template: :1: unclosed action")),
    ("{{.s}", Err("template: :1: bad character U+007D '}'")),
    ("{{if .s}}", Err("template: :1: unexpected EOF")),
    ("{{if}}x{{end}}", Err("template: :1: missing value for if")),
    ("{{end}}", Err("template: :1: unexpected {{end}}")),
    ("{{else}}", Err("template: :1: unexpected {{else}}")),
    ("{{.s}}{{end}}", Err("template: :1: unexpected {{end}}")),
    ("{{foo}}", Err(r#"template: :1: function "foo" not defined"#)),
    ("{{foo .s}}", Err(r#"template: :1: function "foo" not defined"#)),
    ("{{.s | foo}}", Err(r#"template: :1: function "foo" not defined"#)),
    (r#"{{"unterminated}}"#, Err("template: :1: unterminated quoted string")),
    ("{{`raw` }}", Ok("raw")),
    ("{{'c'}}", Ok("99")),
    ("{{'}}", Err("template: :1: unterminated character constant")),
    ("{{1}} {{1.5}} {{0x1F}} {{1e3}} {{-4}} {{1_000}} {{0b11}} {{017}}", Ok("1 1.5 31 1000 -4 1000 3 15")),
    ("{{1a}}", Err(r#"template: :1: bad number syntax: "1a""#)),
    ("{{nil}}", Err(r#"template: :1:2: executing "" at <nil>: nil is not a command"#)),
    ("{{.s.}}", Err("template: :1: unexpected <.> in operand")),
    ("{{.s!}}", Err("template: :1: bad character U+0021 '!'")),
    ("{{@}}", Err(r#"template: :1: unexpected "@" in command"#)),
    ("{{(.s)}}", Ok("hello")),
    ("{{(.deep).a}}", Ok("map[b:map[c:d]]")),
    ("{{(.deep.a).b.c}}", Ok("d")),
    ("{{)}}", Err("template: :1: unexpected right paren")),
    ("{{(.s}}", Err("template: :1: unclosed left paren")),
    ("{{.s 1}}", Err(r#"template: :1:2: executing "" at <.s>: s is not a method but has arguments"#)),
    ("{{1 2}}", Err(r#"template: :1:2: executing "" at <1>: can't give argument to non-function 1"#)),
    ("{{.s | 1}}", Err("template: :1: non executable command in pipeline stage 2")),
    ("{{|}}", Err(r#"template: :1: unexpected "|" in command"#)),
    ("{{.s |}}", Ok("hello")),
    (r#"{{printf "%s-%d" .s 5}}"#, Ok("hello-5")),
    (r#"{{printf "%v %v %v" .s .list .map}}"#, Ok("hello [a b c] map[a:x b:1 c:[1 map[z:<nil>]]]")),
    (r#"{{printf "%q %x %X %T" .s .s .s .s}}"#, Ok(r#""hello" 68656c6c6f 68656C6C6F string"#)),
    (
        r#"{{printf "%5s|%-5s|%05d|%+d|%x|%o|%b|%c|%U" "a" "b" 42 42 255 8 5 65 65}}"#,
        Ok("    a|b    |00042|+42|ff|10|101|A|U+0041"),
    ),
    (
        r#"{{printf "%f %.2f %8.3f %e %g %G" 1.5 1.5 1.5 1.5 1.5 1e30}}"#,
        Ok("1.500000 1.50    1.500 1.500000e+00 1.5 1E+30"),
    ),
    (r#"{{printf "%t" .t}}"#, Ok("true")),
    (r#"{{printf "%d" .s}}"#, Ok("%!d(string=hello)")),
    (r#"{{printf "%s" 5}}"#, Ok("%!s(int=5)")),
    (r#"{{printf "%d"}}"#, Ok("%!d(MISSING)")),
    (r#"{{printf "%s" .s .s}}"#, Ok("hello%!(EXTRA string=hello)")),
    (r#"{{printf "%!"}}"#, Ok("%!!(MISSING)")),
    (r#"{{printf "%z" 5}}"#, Ok("%!z(int=5)")),
    (r#"{{printf "%"}}"#, Ok("%!(NOVERB)")),
    (r#"{{printf "%%"}}"#, Ok("%")),
    (r#"{{printf "%*d" 5 42}}"#, Ok("   42")),
    (r#"{{printf "%[2]s %[1]s" "a" "b"}}"#, Ok("b a")),
    (r#"{{printf "%[5]s" "a"}}"#, Ok("%!s(BADINDEX)")),
    (r#"{{printf "%6.2f|%-8s|%8s" 3.14159 "ab" "cd"}}"#, Ok("  3.14|ab      |      cd")),
    (r#"{{printf "%s" .nil}}"#, Ok("%!s(<nil>)")),
    (r#"{{printf "%v" .nil}}"#, Ok("<nil>")),
    (r#"{{printf "%v" .missing}}"#, Ok("<nil>")),
    (r#"{{printf "%q" .list}}"#, Ok(r#"["a" "b" "c"]"#)),
    (r#"{{printf "%x" "hello"}}"#, Ok("68656c6c6f")),
    (r#"{{printf "% d" 5}}"#, Ok(" 5")),
    (r#"{{printf "%#x %#o" 255 8}}"#, Ok("0xff 010")),
    (r#"{{printf "%08.3f" 3.14159}}"#, Ok("0003.142")),
    (r#"{{printf "%.3s" "abcdef"}}"#, Ok("abc")),
    (r#"{{printf "%c" 0x1F600}}"#, Ok("😀")),
    ("{{printf 5}}", Err(r#"template: :1:9: executing "" at <5>: expected string; found 5"#)),
    (r#"{{print .s .n}} {{print 1 2}} {{print "a" "b"}} {{print 1 "a" 2}}"#, Ok("hello5 1 2 ab 1a2")),
    ("{{println .s}}", Ok("hello\n")),
    (r#"{{println 1 2 "a"}}"#, Ok("1 2 a\n")),
    ("{{len .s}} {{len .list}} {{len .map}}", Ok("5 3 3")),
    ("{{len .n}}", Err(r#"template: :1:2: executing "" at <len .n>: error calling len: len of type int"#)),
    ("{{len .nil}}", Err(r#"template: :1:2: executing "" at <len .nil>: error calling len: len of nil pointer"#)),
    ("{{len}}", Err(r#"template: :1:2: executing "" at <len>: wrong number of args for len: want 1 got 0"#)),
    ("{{index .list 1}}", Ok("b")),
    (
        "{{index .list 9}}",
        Err(r#"template: :1:2: executing "" at <index .list 9>: error calling index: index out of range: 9"#),
    ),
    (
        "{{index .list -1}}",
        Err(r#"template: :1:2: executing "" at <index .list -1>: error calling index: index out of range: -1"#),
    ),
    (
        r#"{{index .list "a"}}"#,
        Err(
            r#"template: :1:2: executing "" at <index .list "a">: error calling index: cannot index slice/array with type string"#,
        ),
    ),
    (r#"{{index .map "a"}} {{index .map "zz"}}"#, Ok("x <no value>")),
    (
        "{{index .map 1}}",
        Err(
            r#"template: :1:2: executing "" at <index .map 1>: error calling index: value has type int; should be string"#,
        ),
    ),
    ("{{index .s 0}}", Ok("104")),
    (
        "{{index .nil 1}}",
        Err(r#"template: :1:2: executing "" at <index .nil 1>: error calling index: index of untyped nil"#),
    ),
    (
        "{{index .missing 1}}",
        Err(r#"template: :1:2: executing "" at <index .missing 1>: error calling index: index of untyped nil"#),
    ),
    (r#"{{index .deep "a" "b" "c"}}"#, Ok("d")),
    (
        "{{index .n 1}}",
        Err(r#"template: :1:2: executing "" at <index .n 1>: error calling index: can't index item of type int"#),
    ),
    ("{{slice .s 1 3}} {{slice .list 1}} {{slice .s 2}}", Ok("el [b c] llo")),
    (
        "{{slice .s 3 1}}",
        Err(r#"template: :1:2: executing "" at <slice .s 3 1>: error calling slice: invalid slice index: 3 > 1"#),
    ),
    (
        "{{slice .s 9}}",
        Err(r#"template: :1:2: executing "" at <slice .s 9>: error calling slice: index out of range: 9"#),
    ),
    (
        "{{slice .n 1}}",
        Err(r#"template: :1:2: executing "" at <slice .n 1>: error calling slice: can't slice item of type int"#),
    ),
    ("{{html .h}}", Ok("&lt;a href=&#34;x&#34;&gt;&amp;&#39;&lt;/a&gt;")),
    ("{{js .h}}", Ok(r#"\u003Ca href\u003D\"x\"\u003E\u0026\'\u003C/a\u003E"#)),
    ("{{urlquery .h}}", Ok("%3Ca+href%3D%22x%22%3E%26%27%3C%2Fa%3E")),
    (r#"{{.h | html | printf "%s"}}"#, Ok("&lt;a href=&#34;x&#34;&gt;&amp;&#39;&lt;/a&gt;")),
    (r#"{{eq .s "hello"}} {{ne .s "x"}} {{eq .s "a" "hello"}}"#, Ok("true true true")),
    (
        "{{eq .s 5}}",
        Err(r#"template: :1:2: executing "" at <eq .s 5>: error calling eq: incompatible types for comparison"#),
    ),
    (
        "{{eq 1 1.0}}",
        Err(r#"template: :1:2: executing "" at <eq 1 1.0>: error calling eq: incompatible types for comparison"#),
    ),
    (r#"{{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 2 2}} {{lt "a" "b"}}"#, Ok("true true false true true")),
    (
        r#"{{lt 1 "a"}}"#,
        Err(r#"template: :1:2: executing "" at <lt 1 "a">: error calling lt: incompatible types for comparison"#),
    ),
    (
        "{{lt .t .t}}",
        Err(r#"template: :1:2: executing "" at <lt .t .t>: error calling lt: invalid type for comparison"#),
    ),
    (
        "{{eq .list .list}}",
        Err(
            r#"template: :1:2: executing "" at <eq .list .list>: error calling eq: non-comparable type [a b c]: []interface {}"#,
        ),
    ),
    ("{{eq .nil nil}}", Ok("true")),
    ("{{eq .missing nil}}", Ok("true")),
    ("{{eq nil nil}}", Ok("true")),
    ("{{eq .s}}", Err(r#"template: :1:2: executing "" at <eq .s>: error calling eq: missing argument for comparison"#)),
    ("{{eq}}", Err(r#"template: :1:2: executing "" at <eq>: wrong number of args for eq: want at least 1 got 0"#)),
    (
        r#"{{and .t .s}} {{or .empty .s}} {{not .t}} {{and .empty .s}} {{or .nil .missing "z"}}"#,
        Ok("hello hello false [] z"),
    ),
    ("{{and}}", Err(r#"template: :1:2: executing "" at <and>: wrong number of args for and: want at least 1 got 0"#)),
    ("{{not}}", Err(r#"template: :1:2: executing "" at <not>: wrong number of args for not: want 1 got 0"#)),
    (
        r#"{{join .list ","}}"#,
        Err(r#"template: :1:7: executing "" at <.list>: wrong type for value; expected []string; got []interface {}"#),
    ),
    (r#"{{join (split "a,b,c" ",") "-"}}"#, Ok("a-b-c")),
    (r#"{{split "a,b,c" ","}}"#, Ok("[a b c]")),
    (
        r#"{{join .s ","}}"#,
        Err(r#"template: :1:7: executing "" at <.s>: wrong type for value; expected []string; got string"#),
    ),
    (
        r#"{{split .n ","}}"#,
        Err(r#"template: :1:8: executing "" at <.n>: wrong type for value; expected string; got int"#),
    ),
    (
        r#"{{title "hello wORLD foo-bar o'neil"}} {{lower "ABC"}} {{upper .s}}"#,
        Ok("Hello WORLD Foo-Bar O'Neil abc HELLO"),
    ),
    ("{{upper .n}}", Err(r#"template: :1:8: executing "" at <.n>: wrong type for value; expected string; got int"#)),
    (
        "{{upper .nil}}",
        Err(r#"template: :1:8: executing "" at <.nil>: wrong type for value; expected string; got interface {}"#),
    ),
    ("{{upper 5}}", Err(r#"template: :1:8: executing "" at <5>: expected string; found 5"#)),
    ("{{upper nil}}", Err(r#"template: :1:8: executing "" at <nil>: cannot assign nil to string"#)),
    ("{{upper true}}", Err(r#"template: :1:8: executing "" at <true>: expected string; found true"#)),
    (r#"{{pad .s 2 3}}|{{pad "" 2 3}}|"#, Ok("  hello   ||")),
    (
        "{{pad .s -1 0}}",
        Err(r#"template: :1:2: executing "" at <pad .s -1 0>: error calling pad: strings: negative Repeat count"#),
    ),
    (r#"{{pad .s "a" 0}}"#, Err(r#"template: :1:9: executing "" at <"a">: expected integer; found "a""#)),
    ("{{truncate .s 3}} {{truncate .s 99}} {{truncate .s 5}}", Ok("hel hello hello")),
    (
        "{{truncate .s}}",
        Err(r#"template: :1:2: executing "" at <truncate>: wrong number of args for truncate: want 2 got 1"#),
    ),
    ("{{.s | truncate 3}}", Err(r#"template: :1:16: executing "" at <3>: expected string; found 3"#)),
    (r#"{{.s | printf "%s %s" "x"}}"#, Ok("x hello")),
    ("{{upper}}", Err(r#"template: :1:2: executing "" at <upper>: wrong number of args for upper: want 1 got 0"#)),
    (
        r#"{{upper "a" "b"}}"#,
        Err(r#"template: :1:2: executing "" at <upper>: wrong number of args for upper: want 1 got 2"#),
    ),
    (r#"{{"abc" | upper | lower}}"#, Ok("abc")),
    (r#"{{"a\tb\n\x41\u00e9\101"}}"#, Ok("a\tb\nAéA")),
    (r#"{{"\q"}}"#, Err("template: :1: invalid syntax")),
    ("{{$.s}} {{range .objs}}{{.k}}{{$.s}}{{end}}", Ok("hello 1hello2hello")),
    ("{{range .objs}}{{.q}},{{end}}", Ok("<no value>,<no value>,")),
    (
        "{{range .objs}}{{.k.z}}{{end}}",
        Err(r#"template: :1:19: executing "" at <.k.z>: can't evaluate field z in type interface {}"#),
    ),
    ("{{$.deep.a.b.c}}", Ok("d")),
    ("{{$.deep.zz.b}}", Ok("<no value>")),
    (r#"{{ .s }}{{- " x" }}"#, Ok("hello x")),
    ("{{range $i, $x = .list}}{{end}}", Err(r#"template: :1:17: executing "" at <.list>: undefined variable: $i"#)),
    ("{{range $a, $b, $c := .list}}{{end}}", Err("template: :1: too many declarations in range")),
    ("{{range $a, 5}}{{end}}", Err("template: :1: range can only initialize variables")),
    ("{{$a, $b := .list}}", Err("template: :1: too many declarations in command")),
    ("{{if $a := .s}}{{$a}}{{end}}", Ok("hello")),
    ("{{template}}", Err(r#"template: :1: unexpected "}}" in template clause"#)),
    ("{{template .s}}", Err(r#"template: :1: unexpected ".s" in template clause"#)),
    (r#"{{define "x"}}"#, Err("template: :1: unexpected EOF")),
    ("{{define x}}{{end}}", Err(r#"template: :1: unexpected "x" in define clause"#)),
    ("{{block}}{{end}}", Err(r#"template: :1: unexpected "}}" in block clause"#)),
    ("{{if .s}}a{{else}}b{{else}}c{{end}}", Err("template: :1: expected end; found {{else}}")),
    ("{{range .list}}{{else}}{{else if}}{{end}}", Err("template: :1: expected end; found {{else}}")),
    (r#"{{if .s}}{{define "q"}}{{end}}{{end}}"#, Err("template: :1: unexpected <define> in command")),
    (r#"{{.s}}{{"a" "b"}}"#, Err(r#"template: :1:8: executing "" at <"a">: can't give argument to non-function "a""#)),
    (
        "{{true}} {{false}} {{true false}}",
        Err(r#"template: :1:21: executing "" at <true>: can't give argument to non-function true"#),
    ),
    ("{{.true}}", Ok("<no value>")),
    (
        "{{call .s}}",
        Err(r#"template: :1:2: executing "" at <call .s>: error calling call: non-function .s of type string"#),
    ),
    ("{{- }}", Err("template: :1: missing value for command")),
    ("{{ }}", Err("template: :1: missing value for command")),
    ("{{.s -}} x", Ok("hellox")),
    ("{{.s-}}", Err("template: :1: bad character U+002D '-'")),
    ("{{3 -}} x", Ok("3x")),
    ("{{/*a*/-}} x", Err("template: :1: comment ends before closing delimiter")),
    ("{{- /*a*/}} x", Ok(" x")),
    ("{{.s,}}", Err(r#"template: :1: unexpected "," in operand"#)),
    ("{{range .list}}{{.}}{{end}}{{break}}", Err("template: :1: {{break}} outside {{range}}")),
    (
        "{{12345678901234567890}}",
        Err(r#"template: :1:2: executing "" at <12345678901234567890>: 12345678901234567890 overflows int"#),
    ),
    (r#"{{printf "%v" 1e6}} {{1e21}} {{1e20}} {{0.000001}} {{0.00001}}"#, Ok("1e+06 1e+21 1e+20 1e-06 1e-05")),
    (r#"{{printf "%s" (print 1 2)}}"#, Ok("1 2")),
    (
        r#"{{(printf "%s" .s).foo}}"#,
        Err(r#"template: :1:15: executing "" at <.s>: can't evaluate field foo in type string"#),
    ),
    (r#"{{len (printf "abc")}}"#, Ok("3")),
    ("{{or 1 (index .list 99)}}", Ok("1")),
    ("{{and 0 (index .list 99)}}", Ok("0")),
    (r#"{{printf "%s" .objs}}"#, Ok("[map[k:1 v:x] map[k:2 v:y]]")),
    (
        "{{.deep.a.b.c.d}}",
        Err(r#"template: :1:7: executing "" at <.deep.a.b.c.d>: can't evaluate field d in type interface {}"#),
    ),
    (r#"{{json 5}} {{json "a<b"}} {{json true}} {{json nil}}"#, Ok(r#"5 "a<b" true null"#)),
    ("{{json}}", Err(r#"template: :1:2: executing "" at <json>: wrong number of args for json: want 1 got 0"#)),
    ("{{json .s .s}}", Err(r#"template: :1:2: executing "" at <json>: wrong number of args for json: want 1 got 2"#)),
    ("{{ .s | json | len }}", Ok("7")),
    ("{{if and .t (or .nil .s) (not .empty)}}ok{{end}}", Ok("ok")),
    (r#"{{eq .s "hello" | not}}"#, Ok("false")),
    ("{{range $k, $v := .deep}}{{$k}}{{range $kk, $vv := $v}}{{$kk}}{{end}}{{end}}", Ok("ab")),
    (
        "x{{if .nil.foo}}{{end}}",
        Err(r#"template: :1:10: executing "" at <.nil.foo>: nil pointer evaluating interface {}.foo"#),
    ),
    (
        "{{range .nil.foo}}{{end}}",
        Err(r#"template: :1:12: executing "" at <.nil.foo>: nil pointer evaluating interface {}.foo"#),
    ),
    (
        "{{with .nil.foo}}{{end}}",
        Err(r#"template: :1:11: executing "" at <.nil.foo>: nil pointer evaluating interface {}.foo"#),
    ),
    (
        r#"{{template "a" .nil.foo}}{{define "a"}}{{end}}"#,
        Err(r#"template: :1:19: executing "" at <.nil.foo>: nil pointer evaluating interface {}.foo"#),
    ),
    (
        r#"{{define "a"}}{{.nil.foo}}{{end}}{{template "a" .}}"#,
        Err(r#"template: :1:20: executing "a" at <.nil.foo>: nil pointer evaluating interface {}.foo"#),
    ),
    (r#"{{"a.b".c}}"#, Err(r#"template: :1: unexpected . after term "\"a.b\"""#)),
    ("{{.s.t.u}}", Err(r#"template: :1:4: executing "" at <.s.t.u>: can't evaluate field t in type interface {}"#)),
    ("{{nil.foo}}", Err(r#"template: :1: unexpected . after term "nil""#)),
    ("{{true.x}}", Err(r#"template: :1: unexpected . after term "true""#)),
    (
        "{{$x := .s}}{{$x.foo}}",
        Err(r#"template: :1:16: executing "" at <$x.foo>: can't evaluate field foo in type string"#),
    ),
    (r#"{{printf "%-10s|" "漢字"}}"#, Ok("漢字        |")),
    (r#"{{printf "%5t|%v" true nil}}"#, Ok(" true|<nil>")),
    (r#"{{printf "%d %d" 1}}"#, Ok("1 %!d(MISSING)")),
    (r#"{{printf "%s %v" "a"}}"#, Ok("a %!v(MISSING)")),
    (r#"{{.u | printf "%q %+q"}}"#, Ok(r#""ünïcödé – 漢字" %!q(MISSING)"#)),
    (r#"{{printf "%#v" "a"}}"#, Ok(r#""a""#)),
    ("{{slice .list 1 2 3}}", Ok("[b]")),
    (
        "{{slice .s 1 2 3}}",
        Err(r#"template: :1:2: executing "" at <slice .s 1 2 3>: error calling slice: cannot 3-index slice a string"#),
    ),
    (
        "{{slice .list 0 1 2 3}}",
        Err(r#"template: :1:2: executing "" at <slice .list 0 1 2 3>: error calling slice: too many slice indexes: 4"#),
    ),
    ("{{lt 1 2 3}}", Err(r#"template: :1:2: executing "" at <lt>: wrong number of args for lt: want 2 got 3"#)),
    ("{{ne 1}}", Err(r#"template: :1:2: executing "" at <ne>: wrong number of args for ne: want 2 got 1"#)),
    (
        "{{index .list 1.5}}",
        Err(
            r#"template: :1:2: executing "" at <index .list 1.5>: error calling index: cannot index slice/array with type float64"#,
        ),
    ),
    (
        "{{index}}",
        Err(r#"template: :1:2: executing "" at <index>: wrong number of args for index: want at least 1 got 0"#),
    ),
    ("{{index .list}}", Ok("[a b c]")),
    (
        "{{printf}}",
        Err(r#"template: :1:2: executing "" at <printf>: wrong number of args for printf: want at least 1 got 0"#),
    ),
    ("{{.Foo}} {{.foo-bar}}", Err("template: :1: bad character U+002D '-'")),
    ("{{$ .s}}", Err(r#"template: :1:2: executing "" at <$>: can't give argument to non-function $"#)),
    ("{{.list | len}}", Ok("3")),
    (
        "{{.list | index 1}}",
        Err(r#"template: :1:10: executing "" at <index 1>: error calling index: can't index item of type int"#),
    ),
    ("{{1 | index .list}}", Ok("b")),
    (
        "a\n{{.s.foo}}",
        Err(r#"template: :2:4: executing "" at <.s.foo>: can't evaluate field foo in type interface {}"#),
    ),
    ("a\n{{\n.s", Err("template: :3: unclosed action started at :2")),
    ("{{.s\n}}", Ok("hello")),
    ("{{if .s}}\n\n{{foo}}", Err(r#"template: :3: function "foo" not defined"#)),
    ("{{.s\n\n!}}", Err(r#"template: :3: unexpected "!" in operand"#)),
];
