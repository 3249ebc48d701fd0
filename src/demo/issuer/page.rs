//! The pages of the demo issuer: rendered here, no JavaScript, everything foreign escaped.

use crate::demo::issuer::DemoUser;

/// Light and dark, one column, large targets.
pub const STYLE: &str = "\
:root { color-scheme: light dark; --line: #8886; --accent: #2563eb; }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; font: 16px/1.5 system-ui, sans-serif; }
main { width: min(30rem, 92vw); padding: 2rem 0; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; }
p { margin: .5rem 0; }
.code { font: 600 2rem/1 ui-monospace, monospace; letter-spacing: .15em; margin: 1.25rem 0; }
.person, .plain, input { width: 100%; padding: .8rem 1rem; border-radius: .6rem; border: 1px solid var(--line);
  background: transparent; color: inherit; font: inherit; text-align: left; margin: .35rem 0; }
.person, .plain { cursor: pointer; }
.person:hover, .person:focus-visible { border-color: var(--accent); outline: 2px solid var(--accent); }
a.person { display: block; text-decoration: none; }
.person b, .person span { display: block; }
.person span, .note { opacity: .75; font-size: .9rem; }
.plain { text-align: center; }
.error { color: #dc2626; }
.note { margin-top: 1.5rem; border-top: 1px solid var(--line); padding-top: .75rem; }
";

/// Asks for the code, saying that the one before is not known.
pub fn ask_for_code(wrong: Option<&str>) -> String {
    let complaint = wrong.map_or_else(String::new, |code| {
        format!("<p class=\"error\" role=\"alert\">No sign-in waits for the code “{}”.</p>", escaped(code))
    });
    page(
        "Sign in",
        &format!(
            "<h1>Enter the code from your terminal</h1>{complaint}\
             <form method=\"get\" action=\"/device\">\
             <label for=\"code\">Code</label>\
             <input id=\"code\" name=\"user_code\" required maxlength=\"20\" autocomplete=\"off\" autofocus>\
             <button class=\"plain\">Continue</button></form>"
        ),
    )
}

/// Shows the code and whom one may be.
pub fn choose(code: &str, users: &[DemoUser]) -> String {
    let code = escaped(code);
    let people: String = users
        .iter()
        .map(|user| {
            format!(
                "<button class=\"person\" name=\"user\" value=\"{}\"><b>{}</b><span>{} · {}</span></button>",
                escaped(&user.login),
                escaped(&user.name),
                escaped(&user.email),
                escaped(&user.groups.join(", ")),
            )
        })
        .collect();
    page(
        "Sign in to dbgate",
        &format!(
            "<h1>Sign in to dbgate</h1><p>Your terminal should show this code:</p><p class=\"code\">{code}</p>\
             <p>Approve as</p><form method=\"post\" action=\"/device\">\
             <input type=\"hidden\" name=\"user_code\" value=\"{code}\">{people}</form>\
             <form method=\"post\" action=\"/device\"><input type=\"hidden\" name=\"user_code\" value=\"{code}\">\
             <button class=\"plain\">This was not me: decline</button></form>"
        ),
    )
}

/// Shows whom one may be, for a page that wants to know. `request` is what that page asked.
pub fn choose_for_page(request: &str, users: &[DemoUser]) -> String {
    let people: String = users
        .iter()
        .map(|user| {
            format!(
                "<a class=\"person\" href=\"/authorize?{}&amp;user={}\"><b>{}</b><span>{} · {}</span></a>",
                escaped(request),
                escaped(&user.login),
                escaped(&user.name),
                escaped(&user.email),
                escaped(&user.groups.join(", ")),
            )
        })
        .collect();
    page("Sign in to dbgate", &format!("<h1>Sign in to dbgate</h1><p>Who are you today?</p>{people}"))
}

/// Says that the answer arrived.
pub fn done(approved: bool) -> String {
    let text = if approved {
        "<h1>Signed in</h1><p>Go back to your terminal; you can close this page.</p>"
    } else {
        "<h1>Declined</h1><p>Nobody was signed in.</p>"
    };
    page("Sign in", text)
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <link rel=\"stylesheet\" href=\"/style.css\"></head><body><main>{body}\
         <p class=\"note\">dbgate demo issuer: make-believe people, on this machine only.</p></main></body></html>"
    )
}

/// Text as HTML shows it, in content and in quoted attributes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_visitor_typed_is_text_not_markup() {
        let page = ask_for_code(Some("<script>alert('1')</script>\""));
        assert!(!page.contains("<script"));
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;"));
    }

    #[test]
    fn every_person_can_be_chosen_and_the_offer_declined() {
        let users = [DemoUser::new("ana", "Ana <Engineer>", "ana@example.com", &["engineers"])];
        let page = choose("BCDF-GHJK", &users);
        assert!(page.contains("name=\"user\" value=\"ana\""));
        assert!(page.contains("Ana &lt;Engineer&gt;"));
        assert!(page.contains("decline"));
    }
}
