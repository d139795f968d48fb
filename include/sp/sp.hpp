// SPDX-License-Identifier: BSD-2-Clause
//
// sp: Scalability Protocols over AF_XDP, raw IP and local sockets. This is all that an application
// includes.
#pragma once

#include "sp/bus.hpp"
#include "sp/device.hpp"
#include "sp/engine.hpp"
#include "sp/error.hpp"
#include "sp/message.hpp"
#include "sp/options.hpp"
#include "sp/pair.hpp"
#include "sp/pub.hpp"
#include "sp/pull.hpp"
#include "sp/push.hpp"
#include "sp/raw.hpp"
#include "sp/rep.hpp"
#include "sp/req.hpp"
#include "sp/respondent.hpp"
#include "sp/socket.hpp"
#include "sp/sub.hpp"
#include "sp/surveyor.hpp"
#include "sp/wait.hpp"
