# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_karmor_global_optspecs
    string join \n color= q/quiet h/help V/version
end

function __fish_karmor_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_karmor_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_karmor_using_subcommand
    set -l cmd (__fish_karmor_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c karmor -n "__fish_karmor_needs_command" -l color -d 'When to colour the output' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c karmor -n "__fish_karmor_needs_command" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c karmor -n "__fish_karmor_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c karmor -n "__fish_karmor_needs_command" -s V -l version -d 'Print version'
complete -c karmor -n "__fish_karmor_needs_command" -f -a "logs" -d 'Follow the alerts and logs of the daemon'
complete -c karmor -n "__fish_karmor_needs_command" -f -a "policy" -d 'Check and explain policies, without a daemon and without root'
complete -c karmor -n "__fish_karmor_needs_command" -f -a "vm" -d 'Manage a machine without Kubernetes'
complete -c karmor -n "__fish_karmor_needs_command" -f -a "probe" -d 'Show what this machine can enforce, and what it enforces'
complete -c karmor -n "__fish_karmor_needs_command" -f -a "version" -d 'Show the version of karmor, and of the daemon if one runs'
complete -c karmor -n "__fish_karmor_needs_command" -f -a "completion" -d 'Print the completion script of a shell'
complete -c karmor -n "__fish_karmor_using_subcommand logs" -l gRPC -d 'Address of the daemon, HOST:PORT or :PORT' -r
complete -c karmor -n "__fish_karmor_using_subcommand logs" -l socket -d 'Unix socket of the daemon [default: /run/karmor/karmor.sock]' -r -F
complete -c karmor -n "__fish_karmor_using_subcommand logs" -l logFilter -d 'What to show' -r -f -a "policy\t'Alerts: what policies refuse or audit'
system\t'Logs: what no policy speaks of'
all\t'Both'"
complete -c karmor -n "__fish_karmor_using_subcommand logs" -l logPath -d 'Where to write alerts and logs: stdout, none or a file, which is appended to' -r
complete -c karmor -n "__fish_karmor_using_subcommand logs" -l msgPath -d 'Where to write messages of the daemon: stdout, none or a file' -r
complete -c karmor -n "__fish_karmor_using_subcommand logs" -s o -l output -d 'How to print an event' -r -f -a "text\t'A block of lines an event'
json\t'One JSON object a line'
pretty-json\t'Indented JSON'"
complete -c karmor -n "__fish_karmor_using_subcommand logs" -l limit -d 'Stop after so many alerts and logs were printed; 0 stands for no limit' -r
complete -c karmor -n "__fish_karmor_using_subcommand logs" -l color -d 'When to colour the output' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c karmor -n "__fish_karmor_using_subcommand logs" -l json -d 'One JSON object a line, the same as -o json'
complete -c karmor -n "__fish_karmor_using_subcommand logs" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c karmor -n "__fish_karmor_using_subcommand logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c karmor -n "__fish_karmor_using_subcommand policy; and not __fish_seen_subcommand_from check explain" -l color -d 'When to colour the output' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c karmor -n "__fish_karmor_using_subcommand policy; and not __fish_seen_subcommand_from check explain" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c karmor -n "__fish_karmor_using_subcommand policy; and not __fish_seen_subcommand_from check explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c karmor -n "__fish_karmor_using_subcommand policy; and not __fish_seen_subcommand_from check explain" -f -a "check" -d 'Check policy files and show all their problems'
complete -c karmor -n "__fish_karmor_using_subcommand policy; and not __fish_seen_subcommand_from check explain" -f -a "explain" -d 'Tell how policies decide an access, and why'
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from check" -s o -l output -d 'How to print the result' -r -f -a "text\t''
json\t''"
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from check" -l color -d 'When to colour the output' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -s f -l file -d 'Policy files, directories, or - for standard input' -r -F
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l exec -d 'Execute this' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l map -d 'Map this executable, as `ld.so PATH` does' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l move -d 'Give this another name, or one more (rename, hard link)' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l open -d 'Open this' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l socket -d 'Make a socket of this kind, or use one: tcp, udp, icmp, raw, stream, ...; as TYPE/PROTOCOL where a protocol has two types: icmp and icmpv6 are raw/icmp, else dgram/icmp, and sctp is seqpacket/sctp, else stream/sctp' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l connect -d 'Connect or send to this address, as ADDRESS:PORT[/tcp|udp|sctp] or ADDRESS/icmp' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l accept -d 'Accept a TCP connection from this address, at this port of its own, as ADDRESS:PORT' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l query -d 'Ask for this name' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l capability -d 'Use this capability' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l syscall -d 'Make this system call' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l at -d 'The path that the system call is about' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l preset -d 'Do what this preset is about' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l from -d 'The executable that does it [default: one that no rule names]' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l parent -d 'The executable that started that one' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l uid -d 'The user that does it' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l owner -d 'The user that owns the object' -r
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l posture -d 'What happens where Allow rules make everything else the exception' -r -f -a "audit\t''
block\t''
allow\t''"
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -s o -l output -d 'How to print the answer' -r -f -a "text\t''
json\t''"
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l color -d 'When to colour the output' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l write -d 'Open for writing instead of reading'
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l host -d 'A process of the host does it, not one of a container; taken so if all policies are hosts\''
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l no-merged-usr -d 'The root has directories where others have the links /bin, /lib and so on into /usr'
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -l terminal -d 'The process has a controlling terminal'
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c karmor -n "__fish_karmor_using_subcommand policy; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c karmor -n "__fish_karmor_using_subcommand vm; and not __fish_seen_subcommand_from policy" -l color -d 'When to colour the output' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c karmor -n "__fish_karmor_using_subcommand vm; and not __fish_seen_subcommand_from policy" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c karmor -n "__fish_karmor_using_subcommand vm; and not __fish_seen_subcommand_from policy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c karmor -n "__fish_karmor_using_subcommand vm; and not __fish_seen_subcommand_from policy" -f -a "policy" -d 'Add, confirm, delete and show policies of the daemon'
complete -c karmor -n "__fish_karmor_using_subcommand vm; and __fish_seen_subcommand_from policy" -l color -d 'When to colour the output' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c karmor -n "__fish_karmor_using_subcommand vm; and __fish_seen_subcommand_from policy" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c karmor -n "__fish_karmor_using_subcommand vm; and __fish_seen_subcommand_from policy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c karmor -n "__fish_karmor_using_subcommand vm; and __fish_seen_subcommand_from policy" -f -a "add" -d 'Apply policies'
complete -c karmor -n "__fish_karmor_using_subcommand vm; and __fish_seen_subcommand_from policy" -f -a "confirm" -d 'Keep policies that are on trial'
complete -c karmor -n "__fish_karmor_using_subcommand vm; and __fish_seen_subcommand_from policy" -f -a "revert" -d 'Take policies that are on trial back at once'
complete -c karmor -n "__fish_karmor_using_subcommand vm; and __fish_seen_subcommand_from policy" -f -a "delete" -d 'Delete policies, by name or as named in files'
complete -c karmor -n "__fish_karmor_using_subcommand vm; and __fish_seen_subcommand_from policy" -f -a "list" -d 'List the policies of the daemon'
complete -c karmor -n "__fish_karmor_using_subcommand vm; and __fish_seen_subcommand_from policy" -f -a "get" -d 'Show a policy of the daemon'
complete -c karmor -n "__fish_karmor_using_subcommand probe" -s o -l output -d 'How to print it' -r -f -a "text\t''
json\t''"
complete -c karmor -n "__fish_karmor_using_subcommand probe" -l gRPC -d 'Address of the daemon, HOST:PORT or :PORT' -r
complete -c karmor -n "__fish_karmor_using_subcommand probe" -l socket -d 'Unix socket of the daemon [default: /run/karmor/karmor.sock]' -r -F
complete -c karmor -n "__fish_karmor_using_subcommand probe" -l color -d 'When to colour the output' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c karmor -n "__fish_karmor_using_subcommand probe" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c karmor -n "__fish_karmor_using_subcommand probe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c karmor -n "__fish_karmor_using_subcommand version" -s o -l output -d 'How to print it' -r -f -a "text\t''
json\t''"
complete -c karmor -n "__fish_karmor_using_subcommand version" -l gRPC -d 'Address of the daemon, HOST:PORT or :PORT' -r
complete -c karmor -n "__fish_karmor_using_subcommand version" -l socket -d 'Unix socket of the daemon [default: /run/karmor/karmor.sock]' -r -F
complete -c karmor -n "__fish_karmor_using_subcommand version" -l color -d 'When to colour the output' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c karmor -n "__fish_karmor_using_subcommand version" -l client -d 'Only the version of this program'
complete -c karmor -n "__fish_karmor_using_subcommand version" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c karmor -n "__fish_karmor_using_subcommand version" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c karmor -n "__fish_karmor_using_subcommand completion" -l color -d 'When to colour the output' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c karmor -n "__fish_karmor_using_subcommand completion" -s q -l quiet -d 'Say nothing but data, warnings and errors'
complete -c karmor -n "__fish_karmor_using_subcommand completion" -s h -l help -d 'Print help (see more with \'--help\')'
