
use builtin;
use str;

set edit:completion:arg-completer[karmor] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'karmor'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'karmor'= {
            cand --color 'When to colour the output'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
            cand logs 'Follow the alerts and logs of the daemon'
            cand policy 'Check and explain policies, without a daemon and without root'
            cand vm 'Manage a machine without Kubernetes'
            cand probe 'Show what this machine can enforce, and what it enforces'
            cand version 'Show the version of karmor, and of the daemon if one runs'
            cand completion 'Print the completion script of a shell'
        }
        &'karmor;logs'= {
            cand --gRPC 'Address of the daemon, HOST:PORT or :PORT'
            cand --socket 'Unix socket of the daemon [default: /run/karmor/karmor.sock]'
            cand --logFilter 'What to show'
            cand --logPath 'Where to write alerts and logs: stdout, none or a file, which is appended to'
            cand --msgPath 'Where to write messages of the daemon: stdout, none or a file'
            cand -o 'How to print an event'
            cand --output 'How to print an event'
            cand --limit 'Stop after so many alerts and logs were printed; 0 stands for no limit'
            cand --color 'When to colour the output'
            cand --json 'One JSON object a line, the same as -o json'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'karmor;policy'= {
            cand --color 'When to colour the output'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand check 'Check policy files and show all their problems'
            cand explain 'Tell how policies decide an access, and why'
        }
        &'karmor;policy;check'= {
            cand -o 'How to print the result'
            cand --output 'How to print the result'
            cand --color 'When to colour the output'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'karmor;policy;explain'= {
            cand -f 'Policy files, directories, or - for standard input'
            cand --file 'Policy files, directories, or - for standard input'
            cand --exec 'Execute this'
            cand --map 'Map this executable, as `ld.so PATH` does'
            cand --move 'Give this another name, or one more (rename, hard link)'
            cand --open 'Open this'
            cand --socket 'Make a socket of this kind, or use one: tcp, udp, icmp, raw, stream, ...; as TYPE/PROTOCOL where a protocol has two types: icmp and icmpv6 are raw/icmp, else dgram/icmp, and sctp is seqpacket/sctp, else stream/sctp'
            cand --connect 'Connect or send to this address, as ADDRESS:PORT[/tcp|udp|sctp] or ADDRESS/icmp'
            cand --accept 'Accept a TCP connection from this address, at this port of its own, as ADDRESS:PORT'
            cand --query 'Ask for this name'
            cand --capability 'Use this capability'
            cand --syscall 'Make this system call'
            cand --at 'The path that the system call is about'
            cand --preset 'Do what this preset is about'
            cand --from 'The executable that does it [default: one that no rule names]'
            cand --parent 'The executable that started that one'
            cand --uid 'The user that does it'
            cand --owner 'The user that owns the object'
            cand --posture 'What happens where Allow rules make everything else the exception'
            cand -o 'How to print the answer'
            cand --output 'How to print the answer'
            cand --color 'When to colour the output'
            cand --write 'Open for writing instead of reading'
            cand --host 'A process of the host does it, not one of a container; taken so if all policies are hosts'''
            cand --no-merged-usr 'The root has directories where others have the links /bin, /lib and so on into /usr'
            cand --terminal 'The process has a controlling terminal'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'karmor;vm'= {
            cand --color 'When to colour the output'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand policy 'Add, confirm, delete and show policies of the daemon'
        }
        &'karmor;vm;policy'= {
            cand --color 'When to colour the output'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand add 'Apply policies'
            cand confirm 'Keep policies that are on trial'
            cand revert 'Take policies that are on trial back at once'
            cand delete 'Delete policies, by name or as named in files'
            cand list 'List the policies of the daemon'
            cand get 'Show a policy of the daemon'
        }
        &'karmor;vm;policy;add'= {
            cand --confirm-within 'Take them back unless they are confirmed in time: 5s to 24h, such as 60s, 5m or 1h30m'
            cand -o 'How to print what became of them'
            cand --output 'How to print what became of them'
            cand --gRPC 'Address of the daemon, HOST:PORT or :PORT'
            cand --socket 'Unix socket of the daemon [default: /run/karmor/karmor.sock]'
            cand --color 'When to colour the output'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'karmor;vm;policy;confirm'= {
            cand -o 'How to print what became of them'
            cand --output 'How to print what became of them'
            cand --gRPC 'Address of the daemon, HOST:PORT or :PORT'
            cand --socket 'Unix socket of the daemon [default: /run/karmor/karmor.sock]'
            cand --color 'When to colour the output'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'karmor;vm;policy;revert'= {
            cand -o 'How to print what became of them'
            cand --output 'How to print what became of them'
            cand --gRPC 'Address of the daemon, HOST:PORT or :PORT'
            cand --socket 'Unix socket of the daemon [default: /run/karmor/karmor.sock]'
            cand --color 'When to colour the output'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'karmor;vm;policy;delete'= {
            cand --kind 'The kind of the policies that are given by name'
            cand -o 'How to print what became of them'
            cand --output 'How to print what became of them'
            cand --gRPC 'Address of the daemon, HOST:PORT or :PORT'
            cand --socket 'Unix socket of the daemon [default: /run/karmor/karmor.sock]'
            cand --color 'When to colour the output'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'karmor;vm;policy;list'= {
            cand -o 'How to print them'
            cand --output 'How to print them'
            cand --gRPC 'Address of the daemon, HOST:PORT or :PORT'
            cand --socket 'Unix socket of the daemon [default: /run/karmor/karmor.sock]'
            cand --color 'When to colour the output'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'karmor;vm;policy;get'= {
            cand --kind 'Its kind'
            cand -o 'How to print it'
            cand --output 'How to print it'
            cand --gRPC 'Address of the daemon, HOST:PORT or :PORT'
            cand --socket 'Unix socket of the daemon [default: /run/karmor/karmor.sock]'
            cand --color 'When to colour the output'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'karmor;probe'= {
            cand -o 'How to print it'
            cand --output 'How to print it'
            cand --gRPC 'Address of the daemon, HOST:PORT or :PORT'
            cand --socket 'Unix socket of the daemon [default: /run/karmor/karmor.sock]'
            cand --color 'When to colour the output'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'karmor;version'= {
            cand -o 'How to print it'
            cand --output 'How to print it'
            cand --gRPC 'Address of the daemon, HOST:PORT or :PORT'
            cand --socket 'Unix socket of the daemon [default: /run/karmor/karmor.sock]'
            cand --color 'When to colour the output'
            cand --client 'Only the version of this program'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'karmor;completion'= {
            cand --color 'When to colour the output'
            cand -q 'Say nothing but data, warnings and errors'
            cand --quiet 'Say nothing but data, warnings and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
    ]
    $completions[$command]
}
