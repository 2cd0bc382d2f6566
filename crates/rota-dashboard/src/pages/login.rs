//! Sign-in with an API token.

use maud::{DOCTYPE, Markup, html};

use crate::{layout, parts::icon, visit::Visit};

/// The page to sign in. It has no navigation, because nothing else can be seen yet.
pub(crate) fn form(visit: &Visit, refused: bool) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-theme=(visit.theme.word()) {
            (layout::head("Sign in"))
            body.alone {
                main.login {
                    p.brand { (icon("logo")) span { "Rota" } }
                    h1 { "Sign in" }
                    @if let Some(flash) = visit.flash() {
                        p.flash role="status" { (flash) }
                    }
                    @if refused {
                        p.trouble role="alert" {
                            "This is not one of the server's tokens. Check that you copied it whole."
                        }
                    }
                    form action="login" method="post" {
                        @if let Some(back) = visit.pairs.get("back") {
                            input type="hidden" name="back" value=(back);
                        }
                        // Password managers ask for a name. There is none.
                        input dir="auto" type="text" name="username" value="api-token" autocomplete="username" hidden;
                        label { "API token"
                            input type="password" name="token" required autofocus autocomplete="current-password"
                                spellcheck="false" maxlength="4096";
                        }
                        button.main type="submit" { "Sign in" }
                    }
                    p.note {
                        "A token is one of the server's " code { "api_tokens" } ". The session lasts 12 hours, and this "
                        "browser keeps no copy of the token."
                    }
                }
            }
        }
    }
}
