
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'karmor' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'karmor'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'karmor' {
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('logs', 'logs', [CompletionResultType]::ParameterValue, 'Follow the alerts and logs of the daemon')
            [CompletionResult]::new('policy', 'policy', [CompletionResultType]::ParameterValue, 'Check and explain policies, without a daemon and without root')
            [CompletionResult]::new('vm', 'vm', [CompletionResultType]::ParameterValue, 'Manage a machine without Kubernetes')
            [CompletionResult]::new('probe', 'probe', [CompletionResultType]::ParameterValue, 'Show what this machine can enforce, and what it enforces')
            [CompletionResult]::new('version', 'version', [CompletionResultType]::ParameterValue, 'Show the version of karmor, and of the daemon if one runs')
            [CompletionResult]::new('completion', 'completion', [CompletionResultType]::ParameterValue, 'Print the completion script of a shell')
            break
        }
        'karmor;logs' {
            [CompletionResult]::new('--gRPC', '--gRPC', [CompletionResultType]::ParameterName, 'Address of the daemon, HOST:PORT or :PORT')
            [CompletionResult]::new('--socket', '--socket', [CompletionResultType]::ParameterName, 'Unix socket of the daemon [default: /run/karmor/karmor.sock]')
            [CompletionResult]::new('--logFilter', '--logFilter', [CompletionResultType]::ParameterName, 'What to show')
            [CompletionResult]::new('--logPath', '--logPath', [CompletionResultType]::ParameterName, 'Where to write alerts and logs: stdout, none or a file, which is appended to')
            [CompletionResult]::new('--msgPath', '--msgPath', [CompletionResultType]::ParameterName, 'Where to write messages of the daemon: stdout, none or a file')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to print an event')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print an event')
            [CompletionResult]::new('--limit', '--limit', [CompletionResultType]::ParameterName, 'Stop after so many alerts and logs were printed; 0 stands for no limit')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'One JSON object a line, the same as -o json')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'karmor;policy' {
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('check', 'check', [CompletionResultType]::ParameterValue, 'Check policy files and show all their problems')
            [CompletionResult]::new('explain', 'explain', [CompletionResultType]::ParameterValue, 'Tell how policies decide an access, and why')
            break
        }
        'karmor;policy;check' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to print the result')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print the result')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'karmor;policy;explain' {
            [CompletionResult]::new('-f', '-f', [CompletionResultType]::ParameterName, 'Policy files, directories, or - for standard input')
            [CompletionResult]::new('--file', '--file', [CompletionResultType]::ParameterName, 'Policy files, directories, or - for standard input')
            [CompletionResult]::new('--exec', '--exec', [CompletionResultType]::ParameterName, 'Execute this')
            [CompletionResult]::new('--map', '--map', [CompletionResultType]::ParameterName, 'Map this executable, as `ld.so PATH` does')
            [CompletionResult]::new('--move', '--move', [CompletionResultType]::ParameterName, 'Give this another name, or one more (rename, hard link)')
            [CompletionResult]::new('--open', '--open', [CompletionResultType]::ParameterName, 'Open this')
            [CompletionResult]::new('--socket', '--socket', [CompletionResultType]::ParameterName, 'Make a socket of this kind, or use one: tcp, udp, icmp, raw, stream, ...; as TYPE/PROTOCOL where a protocol has two types: icmp and icmpv6 are raw/icmp, else dgram/icmp, and sctp is seqpacket/sctp, else stream/sctp')
            [CompletionResult]::new('--connect', '--connect', [CompletionResultType]::ParameterName, 'Connect or send to this address, as ADDRESS:PORT[/tcp|udp|sctp] or ADDRESS/icmp')
            [CompletionResult]::new('--accept', '--accept', [CompletionResultType]::ParameterName, 'Accept a TCP connection from this address, at this port of its own, as ADDRESS:PORT')
            [CompletionResult]::new('--query', '--query', [CompletionResultType]::ParameterName, 'Ask for this name')
            [CompletionResult]::new('--capability', '--capability', [CompletionResultType]::ParameterName, 'Use this capability')
            [CompletionResult]::new('--syscall', '--syscall', [CompletionResultType]::ParameterName, 'Make this system call')
            [CompletionResult]::new('--at', '--at', [CompletionResultType]::ParameterName, 'The path that the system call is about')
            [CompletionResult]::new('--preset', '--preset', [CompletionResultType]::ParameterName, 'Do what this preset is about')
            [CompletionResult]::new('--from', '--from', [CompletionResultType]::ParameterName, 'The executable that does it [default: one that no rule names]')
            [CompletionResult]::new('--parent', '--parent', [CompletionResultType]::ParameterName, 'The executable that started that one')
            [CompletionResult]::new('--uid', '--uid', [CompletionResultType]::ParameterName, 'The user that does it')
            [CompletionResult]::new('--owner', '--owner', [CompletionResultType]::ParameterName, 'The user that owns the object')
            [CompletionResult]::new('--posture', '--posture', [CompletionResultType]::ParameterName, 'What happens where Allow rules make everything else the exception')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to print the answer')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print the answer')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('--write', '--write', [CompletionResultType]::ParameterName, 'Open for writing instead of reading')
            [CompletionResult]::new('--host', '--host', [CompletionResultType]::ParameterName, 'A process of the host does it, not one of a container; taken so if all policies are hosts''')
            [CompletionResult]::new('--no-merged-usr', '--no-merged-usr', [CompletionResultType]::ParameterName, 'The root has directories where others have the links /bin, /lib and so on into /usr')
            [CompletionResult]::new('--terminal', '--terminal', [CompletionResultType]::ParameterName, 'The process has a controlling terminal')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'karmor;vm' {
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('policy', 'policy', [CompletionResultType]::ParameterValue, 'Add, confirm, delete and show policies of the daemon')
            break
        }
        'karmor;vm;policy' {
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('add', 'add', [CompletionResultType]::ParameterValue, 'Apply policies')
            [CompletionResult]::new('confirm', 'confirm', [CompletionResultType]::ParameterValue, 'Keep policies that are on trial')
            [CompletionResult]::new('revert', 'revert', [CompletionResultType]::ParameterValue, 'Take policies that are on trial back at once')
            [CompletionResult]::new('delete', 'delete', [CompletionResultType]::ParameterValue, 'Delete policies, by name or as named in files')
            [CompletionResult]::new('list', 'list', [CompletionResultType]::ParameterValue, 'List the policies of the daemon')
            [CompletionResult]::new('get', 'get', [CompletionResultType]::ParameterValue, 'Show a policy of the daemon')
            break
        }
        'karmor;vm;policy;add' {
            [CompletionResult]::new('--confirm-within', '--confirm-within', [CompletionResultType]::ParameterName, 'Take them back unless they are confirmed in time: 5s to 24h, such as 60s, 5m or 1h30m')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to print what became of them')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print what became of them')
            [CompletionResult]::new('--gRPC', '--gRPC', [CompletionResultType]::ParameterName, 'Address of the daemon, HOST:PORT or :PORT')
            [CompletionResult]::new('--socket', '--socket', [CompletionResultType]::ParameterName, 'Unix socket of the daemon [default: /run/karmor/karmor.sock]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'karmor;vm;policy;confirm' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to print what became of them')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print what became of them')
            [CompletionResult]::new('--gRPC', '--gRPC', [CompletionResultType]::ParameterName, 'Address of the daemon, HOST:PORT or :PORT')
            [CompletionResult]::new('--socket', '--socket', [CompletionResultType]::ParameterName, 'Unix socket of the daemon [default: /run/karmor/karmor.sock]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'karmor;vm;policy;revert' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to print what became of them')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print what became of them')
            [CompletionResult]::new('--gRPC', '--gRPC', [CompletionResultType]::ParameterName, 'Address of the daemon, HOST:PORT or :PORT')
            [CompletionResult]::new('--socket', '--socket', [CompletionResultType]::ParameterName, 'Unix socket of the daemon [default: /run/karmor/karmor.sock]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'karmor;vm;policy;delete' {
            [CompletionResult]::new('--kind', '--kind', [CompletionResultType]::ParameterName, 'The kind of the policies that are given by name')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to print what became of them')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print what became of them')
            [CompletionResult]::new('--gRPC', '--gRPC', [CompletionResultType]::ParameterName, 'Address of the daemon, HOST:PORT or :PORT')
            [CompletionResult]::new('--socket', '--socket', [CompletionResultType]::ParameterName, 'Unix socket of the daemon [default: /run/karmor/karmor.sock]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'karmor;vm;policy;list' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to print them')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print them')
            [CompletionResult]::new('--gRPC', '--gRPC', [CompletionResultType]::ParameterName, 'Address of the daemon, HOST:PORT or :PORT')
            [CompletionResult]::new('--socket', '--socket', [CompletionResultType]::ParameterName, 'Unix socket of the daemon [default: /run/karmor/karmor.sock]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'karmor;vm;policy;get' {
            [CompletionResult]::new('--kind', '--kind', [CompletionResultType]::ParameterName, 'Its kind')
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to print it')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print it')
            [CompletionResult]::new('--gRPC', '--gRPC', [CompletionResultType]::ParameterName, 'Address of the daemon, HOST:PORT or :PORT')
            [CompletionResult]::new('--socket', '--socket', [CompletionResultType]::ParameterName, 'Unix socket of the daemon [default: /run/karmor/karmor.sock]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'karmor;probe' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to print it')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print it')
            [CompletionResult]::new('--gRPC', '--gRPC', [CompletionResultType]::ParameterName, 'Address of the daemon, HOST:PORT or :PORT')
            [CompletionResult]::new('--socket', '--socket', [CompletionResultType]::ParameterName, 'Unix socket of the daemon [default: /run/karmor/karmor.sock]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'karmor;version' {
            [CompletionResult]::new('-o', '-o', [CompletionResultType]::ParameterName, 'How to print it')
            [CompletionResult]::new('--output', '--output', [CompletionResultType]::ParameterName, 'How to print it')
            [CompletionResult]::new('--gRPC', '--gRPC', [CompletionResultType]::ParameterName, 'Address of the daemon, HOST:PORT or :PORT')
            [CompletionResult]::new('--socket', '--socket', [CompletionResultType]::ParameterName, 'Unix socket of the daemon [default: /run/karmor/karmor.sock]')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('--client', '--client', [CompletionResultType]::ParameterName, 'Only the version of this program')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'karmor;completion' {
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to colour the output')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say nothing but data, warnings and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
