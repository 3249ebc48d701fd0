# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_dbgate_global_optspecs
    string join \n server= context= format= no-input q/quiet no-color h/help V/version
end

function __fish_dbgate_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_dbgate_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_dbgate_using_subcommand
    set -l cmd (__fish_dbgate_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c dbgate -n "__fish_dbgate_needs_command" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_needs_command" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_needs_command" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_needs_command" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_needs_command" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_needs_command" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_needs_command" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_needs_command" -s V -l version -d 'Print version'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "login" -d 'Sign in'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "logout" -d 'Sign out and forget the token'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "whoami" -d 'Show who you are signed in as, and where the token is kept'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "ls" -d 'List the targets you may use'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "connect" -d 'Open an interactive session'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "exec" -d 'Run statements and print what they answer'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "check" -d 'Ask for a verdict without running anything'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "psql" -d 'Start psql on a target; the password never shows in its arguments'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "conninfo" -d 'Print how a native client connects; the password is in a file, not in the text'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "revoke" -d 'Give a grant back before its time'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "request" -d 'Look at requests that wait for people, wait for one, or take it back'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "undo" -d 'Take back a small write of yours, where policy keeps what it changed'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "review" -d 'Go through the requests that wait for your decision'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "approve" -d 'Let what was asked for happen, once'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "reject" -d 'Say no to a request, and why'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "audit" -d 'Check evidence offline'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "serve" -d 'Run broker and gateway'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "target" -d 'Prepare the databases behind the gateway'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "classify" -d 'Propose what is sensitive in a target, from names, types and values'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "doctor" -d 'Show every known hole of a target, and what closes it'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "policy" -d 'Print a built-in policy to start from; lint, test and explain policies'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "demo" -d 'Run everything on this machine and walk through the main job'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "completions" -d 'Print a completion script'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "man" -d 'Write the man pages'
complete -c dbgate -n "__fish_dbgate_needs_command" -f -a "help-exit-codes" -d 'Explain the exit codes'
complete -c dbgate -n "__fish_dbgate_using_subcommand login" -l ca-file -d 'PEM file of the authority that signed the broker\'s certificate' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand login" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand login" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand login" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand login" -l no-open -d 'Do not open a browser; print address and code only'
complete -c dbgate -n "__fish_dbgate_using_subcommand login" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand login" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand login" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand login" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand logout" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand logout" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand logout" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand logout" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand logout" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand logout" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand logout" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand whoami" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand whoami" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand whoami" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand whoami" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand whoami" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand whoami" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand whoami" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand ls" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand ls" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand ls" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand ls" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand ls" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand ls" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand ls" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -s d -l database -d 'Database, where the target has several' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -l access -d 'How far the session may go: read, write or admin' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -l for -d 'For how long, as in 90s, 30m or 2h' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -l reason -d 'Why; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -l ticket -d 'Ticket; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -l agent -d 'Name of the program that acts; recorded as declared, grants nothing' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -l model -d 'Its model' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -l task -d 'Its task' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -s X -d 'Do not read or write the history file'
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand connect" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -s c -d 'Statements; may be repeated' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -s f -d 'Files of statements, after -c; may be repeated' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -s d -l database -d 'Database, where the target has several' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l access -d 'How far the session may go: read, write or admin' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l for -d 'For how long, as in 90s, 30m or 2h' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l reason -d 'Why; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l ticket -d 'Ticket; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l agent -d 'Name of the program that acts; recorded as declared, grants nothing' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l model -d 'Its model' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l task -d 'Its task' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -s p -d 'Value of $1, $2, … of the one statement, in this order; PostgreSQL reads it as the type it needs' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l resume -d 'Run what a request was approved for, once; again: say what came of it' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l wait -d 'How long to wait for people who must approve; 15m on a terminal, else 0' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l max-rows -d 'Most rows of a result; more are cut off, and that is said' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l max-bytes -d 'Most bytes of a result\'s rows; more are cut off, and that is said' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l on-error -d 'Go on after an error; the exit code still tells of it' -r -f -a "stop\t''
continue\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l timeout -d 'For the whole call, as in 30s; then what runs is cancelled' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l no-request -d 'Ask nobody: what needs approval is denied'
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l break-glass -d 'Go ahead at once where a rule lets you, with --reason; it is recorded, told, and reviewed within a day'
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l fail-on-truncate -d 'Exit 8 when a result was cut off'
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand exec" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -s c -d 'Statements; may be repeated' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -s f -d 'Files of statements, after -c; may be repeated' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -s d -l database -d 'Database, where the target has several' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -l access -d 'How far the session may go: read, write or admin' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -l for -d 'For how long, as in 90s, 30m or 2h' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -l reason -d 'Why; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -l ticket -d 'Ticket; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -l agent -d 'Name of the program that acts; recorded as declared, grants nothing' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -l model -d 'Its model' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -l task -d 'Its task' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -l impact -d 'Also say what a write would do: ask the planner, or run it and roll it back' -r -f -a "none\t'It does not'
estimate\t'Asks the planner'
trial\t'Runs it under short time limits, counts, and rolls it back'"
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -s d -l database -d 'Database, where the target has several' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -l access -d 'How far the session may go: read, write or admin' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -l for -d 'For how long, as in 90s, 30m or 2h' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -l reason -d 'Why; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -l ticket -d 'Ticket; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -l agent -d 'Name of the program that acts; recorded as declared, grants nothing' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -l model -d 'Its model' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -l task -d 'Its task' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand psql" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -s d -l database -d 'Database, where the target has several' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -l access -d 'How far the session may go: read, write or admin' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -l for -d 'For how long, as in 90s, 30m or 2h' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -l reason -d 'Why; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -l ticket -d 'Ticket; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -l agent -d 'Name of the program that acts; recorded as declared, grants nothing' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -l model -d 'Its model' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -l task -d 'Its task' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand conninfo" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand revoke" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand revoke" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand revoke" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand revoke" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand revoke" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand revoke" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand revoke" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and not __fish_seen_subcommand_from create ls show wait withdraw say" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and not __fish_seen_subcommand_from create ls show wait withdraw say" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and not __fish_seen_subcommand_from create ls show wait withdraw say" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and not __fish_seen_subcommand_from create ls show wait withdraw say" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and not __fish_seen_subcommand_from create ls show wait withdraw say" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and not __fish_seen_subcommand_from create ls show wait withdraw say" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and not __fish_seen_subcommand_from create ls show wait withdraw say" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and not __fish_seen_subcommand_from create ls show wait withdraw say" -f -a "create" -d 'Ask people to let you in, where the policy says that they must agree'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and not __fish_seen_subcommand_from create ls show wait withdraw say" -f -a "ls" -d 'List requests that you made or may decide'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and not __fish_seen_subcommand_from create ls show wait withdraw say" -f -a "show" -d 'Show one with all that is known of it'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and not __fish_seen_subcommand_from create ls show wait withdraw say" -f -a "wait" -d 'Wait until it is decided'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and not __fish_seen_subcommand_from create ls show wait withdraw say" -f -a "withdraw" -d 'Take your own request back'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and not __fish_seen_subcommand_from create ls show wait withdraw say" -f -a "say" -d 'Ask back, or answer; the request stays as it is'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -s d -l database -d 'Database, where the target has several' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -l access -d 'How far the session may go: read, write or admin' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -l for -d 'For how long, as in 90s, 30m or 2h' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -l reason -d 'Why; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -l ticket -d 'Ticket; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -l agent -d 'Name of the program that acts; recorded as declared, grants nothing' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -l model -d 'Its model' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -l task -d 'Its task' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from ls" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from ls" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from ls" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from ls" -l mine -d 'Only your own'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from ls" -l reviewable -d 'Only those that wait for your decision'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from ls" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from ls" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from show" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from show" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from show" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from show" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from show" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from wait" -l timeout -d 'How long at the most' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from wait" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from wait" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from wait" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from wait" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from wait" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from wait" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from wait" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from withdraw" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from withdraw" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from withdraw" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from withdraw" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from withdraw" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from withdraw" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from withdraw" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from say" -s m -l message -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from say" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from say" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from say" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from say" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from say" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from say" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand request; and __fish_seen_subcommand_from say" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand undo" -l reason -d 'Why; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand undo" -l ticket -d 'Ticket; recorded with the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand undo" -l agent -d 'Name of the program that acts; recorded as declared, grants nothing' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand undo" -l wait -d 'How long to wait for people who must approve; 15m on a terminal, else 0' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand undo" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand undo" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand undo" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand undo" -l apply -d 'Run it, in a session of its own with write access'
complete -c dbgate -n "__fish_dbgate_using_subcommand undo" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand undo" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand undo" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand undo" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand review" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand review" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand review" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand review" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand review" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand review" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand review" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand approve" -s m -l message -d 'Why; recorded, and told to whoever asked' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand approve" -l max-rows -d 'Most rows it may change; without it, a tenth more than the trial changed' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand approve" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand approve" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand approve" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand approve" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand approve" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand approve" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand approve" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand reject" -s m -l message -d 'Why; recorded, and told to whoever asked' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand reject" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand reject" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand reject" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand reject" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand reject" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand reject" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand reject" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and not __fish_seen_subcommand_from verify" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and not __fish_seen_subcommand_from verify" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and not __fish_seen_subcommand_from verify" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and not __fish_seen_subcommand_from verify" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and not __fish_seen_subcommand_from verify" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and not __fish_seen_subcommand_from verify" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and not __fish_seen_subcommand_from verify" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and not __fish_seen_subcommand_from verify" -f -a "verify" -d 'Verify an evidence file with nothing but public keys'
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and __fish_seen_subcommand_from verify" -l key -d 'Public key of a log that is trusted; without it, the keys of brokers you signed in to' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and __fish_seen_subcommand_from verify" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and __fish_seen_subcommand_from verify" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and __fish_seen_subcommand_from verify" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and __fish_seen_subcommand_from verify" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and __fish_seen_subcommand_from verify" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and __fish_seen_subcommand_from verify" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand audit; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand serve" -l config -d 'Configuration file' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand serve" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand serve" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand serve" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand serve" -l check -d 'Read the configuration and all files it names, list every problem, and stop'
complete -c dbgate -n "__fish_dbgate_using_subcommand serve" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand serve" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand serve" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand serve" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and not __fish_seen_subcommand_from init diff migrate remove" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and not __fish_seen_subcommand_from init diff migrate remove" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and not __fish_seen_subcommand_from init diff migrate remove" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and not __fish_seen_subcommand_from init diff migrate remove" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and not __fish_seen_subcommand_from init diff migrate remove" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and not __fish_seen_subcommand_from init diff migrate remove" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and not __fish_seen_subcommand_from init diff migrate remove" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and not __fish_seen_subcommand_from init diff migrate remove" -f -a "init" -d 'Print the SQL that prepares a target; with --apply, run it'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and not __fish_seen_subcommand_from init diff migrate remove" -f -a "diff" -d 'Show what `target init` would change, and what is there that it did not make'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and not __fish_seen_subcommand_from init diff migrate remove" -f -a "migrate" -d 'Run the owner\'s migration with the masking views out of its way'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and not __fish_seen_subcommand_from init diff migrate remove" -f -a "remove" -d 'Print the SQL that takes everything of dbgate out of a target; with --apply, run it'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from init" -l config -d 'Configuration file' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from init" -l superuser-dsn-file -d 'File with `user=… password=…` of a superuser (mode 0600); address and database are the target\'s' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from init" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from init" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from init" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from init" -l apply -d 'Run the SQL instead of printing it; may be repeated, and covers what was added since'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from init" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from init" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from init" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from init" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from diff" -l config -d 'Configuration file' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from diff" -l superuser-dsn-file -d 'File with `user=… password=…` of a superuser (mode 0600); address and database are the target\'s' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from diff" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from diff" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from diff" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from diff" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from diff" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from diff" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from migrate" -l config -d 'Configuration file' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from migrate" -l superuser-dsn-file -d 'File with `user=… password=…` of a superuser (mode 0600); address and database are the target\'s' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from migrate" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from migrate" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from migrate" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from migrate" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from migrate" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from migrate" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from migrate" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from remove" -l config -d 'Configuration file' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from remove" -l superuser-dsn-file -d 'File with `user=… password=…` of a superuser (mode 0600); address and database are the target\'s' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from remove" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from remove" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from remove" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from remove" -l apply -d 'Run the SQL instead of printing it'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from remove" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from remove" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand target; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -l config -d 'Configuration file' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -l superuser-dsn-file -d 'File with `user=… password=…` of a superuser (mode 0600); address and database are the target\'s' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -s o -l output -d 'Write the entries to this file, for review; it must not exist, unless --append is given' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -l rows -d 'Rows of each table to look at; 0 looks at names and types only' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -l append -d 'Put the entries at the end of the file'
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -l all -d 'Also columns that the target\'s classification names already'
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -l drift -d 'List what looks sensitive and is named by no entry; exit 8 where there is any'
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand classify" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand doctor" -l config -d 'Configuration file' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand doctor" -l superuser-dsn-file -d 'File with `user=… password=…` of a superuser (mode 0600); address and database are the target\'s' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand doctor" -l accept -d 'A risk that is known and taken: a code, or code=object; may be repeated' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand doctor" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand doctor" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand doctor" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand doctor" -l sql -d 'Print nothing but the SQL that closes what can be closed by SQL'
complete -c dbgate -n "__fish_dbgate_using_subcommand doctor" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand doctor" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand doctor" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and not __fish_seen_subcommand_from lint test explain show-scope" -s o -l output -d 'Write all its files, classification and tests too, to this folder' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and not __fish_seen_subcommand_from lint test explain show-scope" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and not __fish_seen_subcommand_from lint test explain show-scope" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and not __fish_seen_subcommand_from lint test explain show-scope" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and not __fish_seen_subcommand_from lint test explain show-scope" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and not __fish_seen_subcommand_from lint test explain show-scope" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and not __fish_seen_subcommand_from lint test explain show-scope" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and not __fish_seen_subcommand_from lint test explain show-scope" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and not __fish_seen_subcommand_from lint test explain show-scope" -a "lint" -d 'Show what is wrong or suspicious in a policy, with file and line'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and not __fish_seen_subcommand_from lint test explain show-scope" -a "test" -d 'Run a policy\'s own tests (*.test.toml)'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and not __fish_seen_subcommand_from lint test explain show-scope" -a "explain" -d 'Show what somebody may do in a target, and the rules that decide'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and not __fish_seen_subcommand_from lint test explain show-scope" -a "show-scope" -d 'Show the scope that a session gets, its digest, and the SQL it compiles to'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from lint" -l pack -d 'Built-in pack whose rules count too' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from lint" -l target -d 'Target whose database the policy is held against; without a path, the target\'s own policy' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from lint" -l config -d 'Configuration file' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from lint" -l superuser-dsn-file -d 'File with `user=… password=…` of a superuser (mode 0600); without it, the broker asks' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from lint" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from lint" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from lint" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from lint" -l strict -d 'Exit 8 where there are warnings'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from lint" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from lint" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from lint" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from lint" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from test" -l pack -d 'Built-in pack whose rules count too' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from test" -l junit -d 'Write the outcome for a build server too, as JUnit XML' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from test" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from test" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from test" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from test" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from test" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from test" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -s c -d 'Statements to judge; they are not run' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l target -d 'Target, as named in the configuration' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l as -d 'Whose rights: a user, and the groups they are in' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l kind -d 'What kind of principal that is: human, agent or workload' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l access -d 'How far the session may go: read, write or admin' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l agent -d 'Program that the session says it acts through' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l reason -d 'Reason that is given for the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l ticket -d 'Ticket that is given for the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l config -d 'Configuration file' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l superuser-dsn-file -d 'File with `user=… password=…` of a superuser (mode 0600); without it, the broker asks' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l target -d 'Target, as named in the configuration' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l as -d 'Whose rights: a user, and the groups they are in' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l kind -d 'What kind of principal that is: human, agent or workload' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l access -d 'How far the session may go: read, write or admin' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l agent -d 'Program that the session says it acts through' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l reason -d 'Reason that is given for the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l ticket -d 'Ticket that is given for the session' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l config -d 'Configuration file' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l superuser-dsn-file -d 'File with `user=… password=…` of a superuser (mode 0600); without it, the broker asks' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l canonical -d 'Print the canonical document byte for byte: its SHA-256 is the digest'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand policy; and __fish_seen_subcommand_from show-scope" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand demo" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand demo" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand demo" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand demo" -l once -d 'End after the walk, leaving nothing behind'
complete -c dbgate -n "__fish_dbgate_using_subcommand demo" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand demo" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand demo" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand demo" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand completions" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand completions" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand completions" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand completions" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand completions" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand completions" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand completions" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand man" -s o -d 'Folder to write to' -r -F
complete -c dbgate -n "__fish_dbgate_using_subcommand man" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand man" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand man" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand man" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand man" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand man" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand man" -s h -l help -d 'Print help'
complete -c dbgate -n "__fish_dbgate_using_subcommand help-exit-codes" -l server -d 'Broker to use, as in https://gate.example.com' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand help-exit-codes" -l context -d 'Broker of this name in config.toml, where several are known' -r
complete -c dbgate -n "__fish_dbgate_using_subcommand help-exit-codes" -l format -d 'How the answer is written' -r -f -a "auto\t''
table\t''
json\t''
ndjson\t''
csv\t''
tsv\t''"
complete -c dbgate -n "__fish_dbgate_using_subcommand help-exit-codes" -l no-input -d 'Never ask and never open a prompt'
complete -c dbgate -n "__fish_dbgate_using_subcommand help-exit-codes" -s q -l quiet -d 'Say nothing but answers and errors'
complete -c dbgate -n "__fish_dbgate_using_subcommand help-exit-codes" -l no-color -d 'No colours, as with NO_COLOR'
complete -c dbgate -n "__fish_dbgate_using_subcommand help-exit-codes" -s h -l help -d 'Print help'
