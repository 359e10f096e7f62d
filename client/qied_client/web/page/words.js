// What the page says, in English and Chinese. A key is one phrase with one meaning.
const WORDS = {
  en: {
    drop: "Drop a picture here", choose: "Choose a picture", dropHint: "or paste one. PNG, JPEG and WebP up to 64 MB. A result of qied brings its settings back.",
    before: "before", after: "after", compare: "Compare before and after", maskTool: "Paint what may change", undo: "Go back one turn",
    useAsNext: "Use as reference of the next edit", save: "Save", size: "Size", feather: "Feather", erase: "Erase", invert: "Invert", undoStroke: "Undo", clear: "Clear",
    cancel: "Cancel", pictures: "Pictures, as the model counts them", prompt: "What should change?", care: "How careful?", styles: "Styles", more: "Size, seed, guidance",
    aspect: "Size", seed: "Seed", lockSeed: "Keep this seed", steps: "Steps", guidance: "Guidance", negative: "What should not be there", variations: "Variations", edit: "Edit",
    loginTitle: "Welcome", loginText: "Enter your token. The owner of this machine makes one with: qied tokens add NAME", token: "Token", enter: "Enter", close: "Close",
    help: "Help and keys", picture: "Picture", tools: "Tools", history: "History", progress: "Progress", original: "Original", canvas: "1 canvas", slot: "drop, paste or choose",
    remove: "Remove", preview: "Fast", draft: "Balanced", final: "Best", stepsOf: "{n} steps", about: "about {t}", asPicture: "as picture 1", seedRandom: "random seed", seedLocked: "seed {n}, kept",
    waiting: "waiting", place: "place {n}", startsIn: "starts in {t}", left: "{t} left", stepOf: "step {n} of {m}", uploading: "uploading", loading: "loading the model",
    reading: "reading the prompt", looking: "reading the picture", preparing: "preparing", finishing: "finishing", waitingAgain: "waiting again",
    sharing: "{n} edits share the card", sharingOne: "1 edit on the card", idle: "ready", ofSize: "{a} of {b}", away: "The connection is lost. Trying again …", back: "Connected again",
    paused: "paused by the owner", offline: "The server cannot be reached. Your edits go on; this page comes back by itself.", needPicture: "Choose a picture first.", needPrompt: "Say what should change.",
    tooMany: "The model sees {n} pictures at most.", notPicture: "{name} is not a PNG, JPEG or WebP picture.", tooLarge: "{name} is larger than 64 MB. Save it smaller.", failed: "failed", cancelled: "cancelled",
    badToken: "This token is not valid. Ask for a new one.", settingsBack: "The settings of this picture are back.", maskEmpty: "The mask marks nothing: the whole picture may change.", strength: "Strength",
    machine: "This machine", memory: "Memory", who: "Who", what: "What", state: "State", queue: "Queue", pause: "Pause", resume: "Resume", unload: "Free the memory", load: "Load the model", weights: "weights", sessions: "edits", arena: "work space", free: "free",
    keyEdit: "Edit", keyMask: "Brush on and off", keySize: "Brush smaller and larger", keySplit: "Move the slider", keyTurns: "Walk through the history", keyHelp: "This help", signOut: "Forget the token", title: "{p} % – {t}",
    exact: "{w} × {h} pixels", branch: "from {n}", noPicture: "no picture", warningsOf: "Note", saved: "Saved", running: "running",
  },
  zh: {
    drop: "将图片拖到这里", choose: "选择图片", dropHint: "也可以粘贴。支持 PNG、JPEG、WebP，最大 64 MB。拖入 qied 的结果可恢复其设置。",
    before: "之前", after: "之后", compare: "对比前后", maskTool: "涂抹可以改变的部分", undo: "返回上一步", useAsNext: "用作下一次编辑的参考图", save: "保存", size: "大小", feather: "羽化", erase: "擦除", invert: "反选", undoStroke: "撤销", clear: "清除",
    cancel: "取消", pictures: "图片（模型按此顺序编号）", prompt: "要改变什么？", care: "精细程度", styles: "风格", more: "尺寸、种子、引导", aspect: "尺寸", seed: "种子", lockSeed: "固定此种子", steps: "步数", guidance: "引导强度", negative: "不应出现的内容", variations: "变体", edit: "编辑",
    loginTitle: "欢迎", loginText: "请输入令牌。机器的主人可用 qied tokens add 名称 创建。", token: "令牌", enter: "进入", close: "关闭", help: "帮助与快捷键", picture: "图片", tools: "工具", history: "历史", progress: "进度", original: "原图", canvas: "1 画布", slot: "拖入、粘贴或选择",
    remove: "移除", preview: "快速", draft: "均衡", final: "最佳", stepsOf: "{n} 步", about: "约 {t}", asPicture: "与图片 1 相同", seedRandom: "随机种子", seedLocked: "种子 {n}（固定）",
    waiting: "等待中", place: "第 {n} 位", startsIn: "{t} 后开始", left: "剩余 {t}", stepOf: "第 {n}/{m} 步", uploading: "上传中", loading: "正在加载模型", reading: "读取提示词", looking: "读取图片", preparing: "准备中", finishing: "收尾", waitingAgain: "重新排队",
    sharing: "{n} 个编辑共用显卡", sharingOne: "显卡上有 1 个编辑", idle: "就绪", ofSize: "{a} / {b}", away: "连接已断开，正在重试……", back: "已重新连接", paused: "已被主人暂停", offline: "无法连接服务器。你的编辑仍在继续，页面会自动恢复。", needPicture: "请先选择图片。", needPrompt: "请说明要改变什么。",
    tooMany: "模型最多看 {n} 张图片。", notPicture: "{name} 不是 PNG、JPEG 或 WebP 图片。", tooLarge: "{name} 超过 64 MB，请缩小后再试。", failed: "失败", cancelled: "已取消", badToken: "令牌无效，请索取新的令牌。", settingsBack: "已恢复这张图片的设置。", maskEmpty: "蒙版没有标记任何区域：整张图片都可能改变。", strength: "强度",
    machine: "本机", memory: "显存", who: "用户", what: "任务", state: "状态", queue: "队列", pause: "暂停", resume: "继续", unload: "释放显存", load: "加载模型", weights: "权重", sessions: "编辑", arena: "工作区", free: "空闲",
    keyEdit: "编辑", keyMask: "画笔开关", keySize: "缩小与放大画笔", keySplit: "移动分隔线", keyTurns: "浏览历史", keyHelp: "本帮助", signOut: "忘记令牌", title: "{p} % – {t}", exact: "{w} × {h} 像素", branch: "来自 {n}", noPicture: "没有图片", warningsOf: "提示", saved: "已保存", running: "进行中",
  },
};

let language = localStorage.getItem("qied.language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");

export function say(key, values = {}) {
  const text = WORDS[language][key] ?? WORDS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export function currentLanguage() { return language; }

// Put the words into everything that has a key: texts, titles and labels.
export function translate(root = document) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const item of root.querySelectorAll("[data-words]")) item.textContent = say(item.dataset.words);
  for (const item of root.querySelectorAll("[data-title]")) {
    item.title = say(item.dataset.title);
    item.setAttribute("aria-label", say(item.dataset.title));
  }
  for (const item of root.querySelectorAll("[data-label]")) item.setAttribute("aria-label", say(item.dataset.label));
}

export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("qied.language", language);
  translate();
}

export function duration(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

export function bytes(size) { return `${(size / 1e9).toFixed(1)} GB`; }
