//! A real OpenID Connect provider for tests: starts and stops `oidc/server.mjs`, and signs people
//! in through its own pages, as a browser would.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use dbgate::sys::http::Http;
use openidconnect::url::{Url, form_urlencoded};
use openidconnect::{HttpRequest, HttpResponse, http};

/// Pages between the first and "Sign-in Success": code, confirmation, sign-in, consent, redirects.
const MOST_STEPS: usize = 20;

/// A running provider. Dropping it ends the process.
pub struct Oidc {
    child: Child,
    /// Open as long as the provider is to run.
    stdin: Option<ChildStdin>,
    url: String,
}

impl Oidc {
    /// Starts on a free port; `environment` as `oidc/server.mjs` says, for instance
    /// `("OIDC_ID_TOKEN_TTL", "5")`.
    pub fn start(environment: &[(&str, &str)]) -> Self {
        let folder = folder();
        install(&folder);
        let mut child = Command::new("node")
            .arg("server.mjs")
            .current_dir(&folder)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node runs: it is needed for the sign-in tests");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("piped"));
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the provider says its port");
        let said: serde_json::Value = serde_json::from_str(&line).expect("the provider starts");
        let port = said.get("port").and_then(serde_json::Value::as_u64).expect("a port");
        Self { child, stdin, url: format!("http://127.0.0.1:{port}") }
    }

    /// The issuer's address and name.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Signs `user` in at the page with the code filled in, as `dbgate login` prints it. Any
    /// password will do.
    pub async fn approve(&self, complete_page: &str, user: &str) {
        let mut browser = Browser { http: Http::new(&self.url, None).expect("loopback"), cookies: BTreeMap::new() };
        let mut page = browser.get(complete_page).await;
        for _ in 0..MOST_STEPS {
            if page.html.contains("Sign-in Success") {
                return;
            }
            page = match &page.redirect {
                Some(next) => browser.get(next).await,
                None => browser.submit(&page, user).await,
            };
        }
        panic!("the provider never said that the sign-in worked; its last page:\n{}", page.html);
    }

    /// Ends the provider, and returns once it is gone.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Oidc {
    fn drop(&mut self) {
        self.end();
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/oidc")
}

/// Installs exactly what the lock file names, once.
fn install(folder: &Path) {
    if folder.join("node_modules/oidc-provider").is_dir() {
        return;
    }
    let status = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .status()
        .expect("npm runs: it is needed for the sign-in tests");
    assert!(status.success(), "npm ci failed in {}", folder.display());
}

/// As much of a browser as the provider's pages need: cookies, redirects, forms.
struct Browser {
    http: Http,
    cookies: BTreeMap<String, String>,
}

struct Page {
    url: Url,
    html: String,
    redirect: Option<String>,
}

impl Browser {
    async fn get(&mut self, url: &str) -> Page {
        self.send(url, http::Method::GET, String::new()).await
    }

    /// Sends the page's form with its hidden fields. Buttons are left out: one of them aborts.
    async fn submit(&mut self, page: &Page, user: &str) -> Page {
        let form = tag(&page.html, "<form").unwrap_or_else(|| panic!("no form on the page:\n{}", page.html));
        let action = attribute(form, "action").expect("a form has an action");
        let mut fields = form_urlencoded::Serializer::new(String::new());
        for input in page.html.split("<input").skip(1).filter_map(|rest| rest.split('>').next()) {
            let Some(name) = attribute(input, "name") else { continue };
            let value = match name.as_str() {
                "abort" => continue,
                "login" => user.to_owned(),
                "password" => "any".to_owned(),
                _ => attribute(input, "value").unwrap_or_default(),
            };
            fields.append_pair(&name, &value);
        }
        let action = page.url.join(&action).expect("an address");
        self.send(action.as_str(), http::Method::POST, fields.finish()).await
    }

    async fn send(&mut self, url: &str, method: http::Method, body: String) -> Page {
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        let request: HttpRequest = http::Request::builder()
            .method(method)
            .uri(url)
            .header("cookie", cookies.join("; "))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.into_bytes())
            .expect("a request");
        let answer = self.http.send(request).await.expect("the provider answers");
        self.keep_cookies(&answer);
        let url = Url::parse(url).expect("an address");
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let redirect = location.map(|next| url.join(next).expect("an address").to_string());
        let html = String::from_utf8_lossy(answer.body()).into_owned();
        Page { url, html, redirect }
    }

    /// Paths are not looked at: no two cookies of the provider's pages share a name at one time.
    fn keep_cookies(&mut self, answer: &HttpResponse) {
        for cookie in answer.headers().get_all("set-cookie") {
            let cookie = cookie.to_str().expect("text");
            let pair = cookie.split(';').next().unwrap_or(cookie);
            let (name, value) = pair.split_once('=').expect("name and value");
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

fn tag<'a>(html: &'a str, start: &str) -> Option<&'a str> {
    html.get(html.find(start)?..)?.split('>').next()
}

/// A quoted attribute of a tag.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let rest = tag.split(&format!(" {name}=\"")).nth(1)?;
    Some(rest.split('"').next()?.replace("&amp;", "&").replace("&quot;", "\"").replace("&#39;", "'"))
}
